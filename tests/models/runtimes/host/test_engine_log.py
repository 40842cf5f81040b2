"""A log that its writers fill through a bare descriptor, and that stays bounded all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.runtimes.host.engine_log import EngineLog, LogHead, prune, read_head
from tests.models.runtimes.orders import order


@pytest.fixture
def output(tmp_path):
    """A descriptor that stands for standard output."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def taken(tmp_path, output, full_bytes=1000):
    log = EngineLog(order(tmp_path), full_bytes=full_bytes, started_unix_s=5.0)
    log.take((output,))
    return log, Path(order(tmp_path).log_path)


def test_a_log_says_whose_it_is(tmp_path, output):
    _, path = taken(tmp_path, output)
    assert read_head(path) == LogHead(
        replica_id="r1", model_id="some-model", runtime="fake", pid=os.getpid(), started_unix_s=5.0
    )
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_log_is_turned_over_under_its_writers_feet(tmp_path, output):
    log, path = taken(tmp_path, output)
    os.write(output, b"early " + b"x" * 2000 + b"\n")
    assert log.turn_over()
    os.write(output, b"late\n")
    assert not log.turn_over()
    assert path.read_text().splitlines()[1:] == ["late"]
    assert "early" in Path(f"{path}.1").read_text()
    assert read_head(path) == read_head(Path(f"{path}.1"))


def test_no_more_than_two_files_are_kept_and_the_newest_lines_are_in_them(tmp_path, output):
    log, path = taken(tmp_path, output)
    for number in range(100):
        os.write(output, f"{number} {'x' * 200}\n".encode())
        log.turn_over()
    assert sorted(file.name for file in path.parent.iterdir()) == ["r1.log", "r1.log.1"]
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 3000
    assert "99 xxx" in path.read_text() + Path(f"{path}.1").read_text()


def test_a_folder_that_is_gone_does_no_harm(tmp_path, output):
    log, path = taken(tmp_path, output)
    os.write(output, b"x" * 2000)
    path.unlink()
    path.parent.rmdir()
    assert not log.turn_over()
    os.write(output, b"still here")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, output):
    (tmp_path / "logs").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="File exists"):
        taken(tmp_path, output)


def test_what_is_no_engines_log_has_no_head(tmp_path):
    for text in ("", "hello\n", "#{broken\n"):
        (tmp_path / "x.log").write_text(text)
        assert read_head(tmp_path / "x.log") is None
    assert read_head(tmp_path / "none.log") is None


def aged(folder, count):
    folder.mkdir(exist_ok=True)
    for number in range(count):
        for name in (f"{number}.log", f"{number}.log.1"):
            (folder / name).write_text("x")
            os.utime(folder / name, (number, number))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_logs_are_kept(tmp_path):
    aged(tmp_path / "logs", 5)
    assert prune(tmp_path / "logs", 5.0, keep=2) == 3
    assert names(tmp_path / "logs") == ["3.log", "3.log.1", "4.log", "4.log.1"]


def test_old_logs_go_however_few_there_are(tmp_path):
    aged(tmp_path / "logs", 3)
    assert prune(tmp_path / "logs", 11.5, keep_s=10.0) == 2
    assert names(tmp_path / "logs") == ["2.log", "2.log.1"]


def test_a_log_that_is_being_written_is_never_deleted(tmp_path, output):
    _, path = taken(tmp_path, output)
    os.utime(path, (0, 0))
    assert prune(path.parent, 1e9, keep=0) == 0
    assert path.exists()


def test_a_folder_without_logs_needs_no_pruning(tmp_path):
    assert prune(tmp_path / "none", 0.0) == 0


PROCESS = """
import os, sys
from pathlib import Path
from models.runtimes.host.engine_log import EngineLog, explain_crashes
from tests.models.runtimes.orders import order
EngineLog(order(Path(sys.argv[1]))).take()
explain_crashes()

def waits_for_nobody():
    os.kill(os.getpid(), {signal})

waits_for_nobody()
os.system("echo from a child process")
print("and from Python", flush=True)
"""


def log_of_process(folder, number):
    program = PROCESS.replace("{signal}", str(int(number)))
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    return done.returncode, Path(order(folder).log_path).read_text()


def test_everything_that_a_process_writes_is_in_it_and_its_stacks_on_demand(tmp_path):
    code, text = log_of_process(tmp_path, signal.SIGUSR2)
    assert code == 0
    assert "in waits_for_nobody" in text
    assert text.index("from a child process") < text.index("and from Python")


def test_a_crash_leaves_its_stack_in_the_log(tmp_path):
    code, text = log_of_process(tmp_path, signal.SIGSEGV)
    assert code == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in text
    assert "in waits_for_nobody" in text

"""What processes take is read from /proc; those that end meanwhile are gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from loadtests.coldstart.memory import Taken, available_bytes, taken, with_variable

ROLLUP = "0-1 ---p 0 00:00 0 [rollup]\nRss:             4096 kB\nPss:             2048 kB\nPss_Dirty: 9 kB\n"


def process(proc: Path, pid: int, environ: str = "") -> None:
    folder = proc / str(pid)
    for part in ("fd/0", "fd/1", "task/1"):
        (folder / part).mkdir(parents=True)
    (folder / "smaps_rollup").write_text(ROLLUP)
    (folder / "environ").write_bytes(environ.encode())


def test_processes_are_added_up(tmp_path: Path) -> None:
    process(tmp_path, 1)
    process(tmp_path, 2)
    assert taken([1, 2, 3], tmp_path) == Taken(2, 2 * 2048 * 1024, 2 * 4096 * 1024, descriptors=4, threads=2)


def test_this_process_takes_something() -> None:
    mine = taken([os.getpid()])
    assert mine.rss_bytes >= mine.pss_bytes > 1 << 20
    assert min(mine.descriptors, mine.threads, mine.processes) >= 1
    assert mine.document()["rss_mib"] == mine.rss_bytes >> 20


def test_processes_are_found_by_a_variable_of_theirs(tmp_path: Path) -> None:
    process(tmp_path, 1, "A=1\0ROUNDHOUSE_HOME=/a\0")
    process(tmp_path, 2, "ROUNDHOUSE_HOME=/a/b\0")
    (tmp_path / "meminfo").write_text("MemAvailable:       7 kB\n")
    (tmp_path / "3").mkdir()  # it is ending
    assert list(with_variable("ROUNDHOUSE_HOME", "/a", tmp_path)) == [1]
    assert available_bytes(tmp_path) == 7 * 1024


def test_a_real_child_is_found_by_its_variable() -> None:
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    environ = os.environ | {"ROUNDHOUSE_TEST_MARK": "here"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert list(with_variable("ROUNDHOUSE_TEST_MARK", "here")) == [child.pid]
        assert child.stdin is not None
        child.stdin.close()

"""What a death means, from its signal, its log and its core; with logs of processes that really crashed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from models.runtimes.host.crashes import core_limit_bytes, core_note, core_pattern, crashed_in, last_words, log_lines

CORE_DUMPED = signal.SIGSEGV | 0x80  # as waitpid gives it

DYING = """
import ctypes, faulthandler, mmap, os, sys, tempfile, threading
faulthandler.enable(file=2, all_threads=True)
threading.Thread(target=threading.Event().wait, daemon=True).start()

def predict():
    print("computing /secret/place/of/weights.bin", file=sys.stderr, flush=True)
    {how}

def serve():
    predict()

serve()
"""
HOW = {
    "segfault": "ctypes.string_at(0)",
    "abort": "os.abort()",
    "shrunk file": """
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        mapped[0]
""",
}


@pytest.mark.parametrize(
    ("how", "number"), [("segfault", signal.SIGSEGV), ("abort", signal.SIGABRT), ("shrunk file", signal.SIGBUS)]
)
def test_the_functions_that_crashed_are_named_and_what_was_said_before(tmp_path, how, number):
    log = tmp_path / "log"
    with log.open("wb") as output:
        died = subprocess.run([sys.executable, "-c", DYING.format(how=HOW[how])], stderr=output, check=False)
    assert died.returncode == -number
    lines = log_lines(str(log))
    assert "predict (<string>:" in crashed_in(lines)
    assert ", called by serve (<string>:" in crashed_in(lines)
    assert last_words(lines) == "computing weights.bin"


def test_without_a_crash_no_function_is_named():
    assert crashed_in(["all is well", 'File "a.py", line 1 in f']) == ""


def test_a_traceback_ends_in_its_last_words():
    lines = ["Traceback (most recent call last):", 'File "/a/b.py", line 3, in load', "ValueError: no good"]
    assert last_words(lines) == "ValueError: no good"


def test_what_went_well_explains_no_death():
    lines = ["WARNING 11-22 02:14:27 [cpu.py:1] low on memory", "2026-11-22 02:18:06,445 INFO roundhouse.engine: ready"]
    assert last_words(lines).endswith("low on memory")


def test_the_last_line_that_says_something(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b'#{"replica_id":"r"}\nfirst\n\x1b[31mred and \x07last\x1b[0m\n\n   \n')
    assert log_lines(str(log)) == ["first", "red and last"]


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"\xff" * 200_000 + b"\nlast " + b"x" * 1000)
    assert last_words(log_lines(str(log))).startswith("last xxx")
    assert len(last_words(log_lines(str(log)))) == 300


def test_no_log_has_no_last_words(tmp_path):
    assert last_words(log_lines(str(tmp_path / "none"))) == ""


@pytest.mark.parametrize(
    ("wait_status", "pattern", "limit", "said"),
    [
        (CORE_DUMPED, "core", -1, "its core is at /srv/core (or core.7)"),
        (CORE_DUMPED, "/cores/%e.%p", -1, "its core is at /cores/*.7"),
        (CORE_DUMPED, "|/lib/systemd/systemd-coredump %P", -1, "coredumpctl dump 7"),
        (signal.SIGSEGV, "core", 0, "run `ulimit -c unlimited` before `roundhouse up`"),
        (signal.SIGSEGV, "core", -1, "no core was written"),
    ],
)
def test_where_the_core_is_or_how_to_get_one(wait_status, pattern, limit, said):
    assert said in core_note(7, signal.SIGSEGV, wait_status, pattern + "\n", "/srv", limit)


def test_signals_that_leave_no_core_need_no_word_on_it():
    assert core_note(7, signal.SIGKILL, signal.SIGKILL, "core", "/work", 0) == ""


def test_the_machines_own_settings_can_be_read():
    assert core_pattern()
    assert core_limit_bytes() >= -1

"""How an engine ended, kept beside its socket and at the end of its own log."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from models.runtimes.host.exits import ExitRecords, exit_report, read_exit_report
from models.runtimes.host.memory_kills import MemoryKills
from models.runtimes.protocol import ExitReport, exit_path
from tests.models.runtimes.orders import order


def exited(code):
    return code << 8


def logged(folder, text):
    """An order whose engine has written ``text``."""
    ordered = order(folder)
    log = Path(ordered.log_path)
    log.parent.mkdir(exist_ok=True)
    log.write_text(text)
    return ordered


class Kernel(MemoryKills):
    """Knows what killed whom."""

    def __init__(self, says=None):
        self.says = says

    def explain(self, pid):
        return self.says


def test_a_signal_and_a_code_are_told_apart(tmp_path):
    killed = exit_report(5, order(tmp_path), signal.SIGKILL)
    failed = exit_report(5, order(tmp_path), exited(3))
    assert (killed.signal, killed.code) == (9, None)
    assert (failed.signal, failed.code) == (None, 3)


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (ExitReport(pid=5, replica_id="r", signal=9), "the engine's process 5 was killed by signal 9 (Killed)"),
        (ExitReport(pid=5, replica_id="r", signal=11), "was killed by signal 11 (Segmentation fault)"),
        (
            ExitReport(pid=5, replica_id="r", signal=7, meaning="a file shrank", crashed_in="f (a.py:1)"),
            "was killed by signal 7 (Bus error), a file shrank, in f (a.py:1)",
        ),
        (
            ExitReport(pid=5, replica_id="r", signal=6, last_log_line="terminate called"),
            "was killed by signal 6 (Aborted); it last said: terminate called",
        ),
        (ExitReport(pid=5, replica_id="r", code=1, last_log_line="no room"), "ended with code 1: no room"),
        (ExitReport(pid=5, replica_id="r", code=3), "ended with code 3"),
        (ExitReport(pid=5, replica_id="r", code=0, last_log_line="bye"), "the engine's process 5 ended"),
    ],
)
def test_the_reason_is_one_sentence(report, reason):
    assert report.reason().endswith(reason)


def test_the_reason_says_what_it_was_doing():
    report = ExitReport(pid=5, replica_id="r", signal=9)
    assert report.reason("while it woke").endswith("was killed by signal 9 (Killed) while it woke")


def test_the_end_of_the_log_goes_along(tmp_path):
    report = exit_report(5, logged(tmp_path, "".join(f"line {n}\n" for n in range(50))), exited(1))
    assert report.log_tail[-1] == "line 49"
    assert len(report.log_tail) == 12
    assert report.reason().endswith("ended with code 1: line 49")


def test_want_of_memory_is_said_as_surely_as_the_kernel_says_it(tmp_path):
    report = exit_report(5, order(tmp_path), signal.SIGKILL, Kernel("the kernel ended it because memory had run out"))
    assert "because memory had run out" in report.reason()
    assert report.fault == "memory"


def test_a_kill_that_the_kernel_knows_nothing_of_was_somebodys(tmp_path):
    report = exit_report(5, order(tmp_path), signal.SIGKILL, Kernel())
    assert report.reason().endswith("(Killed), sent by another process: the kernel reports no lack of memory")
    assert report.fault == "other"


def test_a_crash_is_written_at_the_end_of_its_log_with_a_word_on_the_core(tmp_path):
    ordered = logged(tmp_path, "loading\n")
    ExitRecords().take(5, ordered, signal.SIGSEGV)
    first, last = Path(ordered.log_path).read_text().splitlines()
    assert first == "loading"
    assert "ERROR roundhouse.launcher: the engine's process 5 was killed by signal 11" in last
    assert "no core was written" in last
    report = read_exit_report(ordered.control_path)
    assert report is not None
    assert report.signal == 11


def test_an_engine_that_ended_in_order_has_the_last_word_itself(tmp_path):
    ordered = logged(tmp_path, "ending: it was told to stop\n")
    ExitRecords().take(5, ordered, exited(0))
    assert Path(ordered.log_path).read_text() == "ending: it was told to stop\n"


def test_an_engine_without_a_log_gets_none_by_dying(tmp_path):
    ExitRecords().take(5, order(tmp_path), exited(3))
    assert not os.path.exists(order(tmp_path).log_path)


def test_a_report_is_found_by_the_control_path(tmp_path):
    report = ExitReport(pid=5, replica_id="r", signal=9, last_log_line="und\u00e4ted")
    ExitRecords().write(str(tmp_path / "r.ctl"), report)
    assert read_exit_report(str(tmp_path / "r.ctl")) == report
    assert read_exit_report(str(tmp_path / "other.ctl")) is None


def test_half_a_report_is_none(tmp_path):
    (tmp_path / "r.ctl.exit").write_text('{"pid": 5, "rep')
    assert read_exit_report(str(tmp_path / "r.ctl")) is None


def test_only_the_newest_reports_are_kept(tmp_path):
    records = ExitRecords(keep=3)
    for number in range(10):
        records.write(str(tmp_path / f"{number}.ctl"), ExitReport(pid=number, replica_id="r", code=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7.ctl.exit", "8.ctl.exit", "9.ctl.exit"]


def test_a_folder_that_is_gone_is_no_reason_to_fail(tmp_path):
    control_path = str(tmp_path / "gone" / "r.ctl")
    ExitRecords().write(control_path, ExitReport(pid=1, replica_id="r", code=0))
    assert read_exit_report(control_path) is None
    assert exit_path(control_path).endswith("r.ctl.exit")

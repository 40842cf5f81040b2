"""How an engine ended, kept beside its socket."""

from __future__ import annotations

import signal

import pytest

from models.runtimes.exits import ExitRecords, exit_report, last_log_line, read_exit_report
from models.runtimes.protocol import ExitReport, exit_path
from tests.models.runtimes.orders import order


def exited(code):
    return code << 8


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
        (ExitReport(pid=5, replica_id="r", code=1, last_log_line="no room"), "ended with code 1: no room"),
        (ExitReport(pid=5, replica_id="r", code=3), "ended with code 3"),
        (ExitReport(pid=5, replica_id="r", code=0, last_log_line="bye"), "the engine's process 5 ended"),
    ],
)
def test_the_reason_is_one_sentence(report, reason):
    assert report.reason().endswith(reason)


def test_the_last_line_that_says_something(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"first\n\x1b[31mred and last\x1b[0m\n\n   \n")
    assert last_log_line(str(log)) == "red and last"


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"\xff" * 100_000 + b"\nlast " + b"x" * 1000)
    assert last_log_line(str(log)).startswith("last xxx")
    assert len(last_log_line(str(log))) == 300


def test_no_log_has_no_last_line(tmp_path):
    assert last_log_line(str(tmp_path / "none")) == ""


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

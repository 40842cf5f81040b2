"""What the callers print is read back, and their failures are told."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.gateway.callers import Callers, Times, opened, read_seen
from loadtests.gateway.problems import CannotMeasure
from tests.loadtests.gateway.conftest import EVERYWHERE

TIMES = {"count": 4, "mean": 2.0, "p50": 1.5, "p90": 3.0, "p99": 4.0, "p999": 4.0, "max": 4.5}
PRINTED: dict[str, Any] = {
    "connections": 2, "seconds": 2.0, "done": 10, "failed": 0, "bad_status": 0, "reconnects": 1, "left": 0, "stuck": 0,
    "open": 0, "events": 30, "bytes": 99, "why": "", "latency_us": TIMES, "first_byte_us": None, "gap_us": None,
}  # fmt: skip


def printed(**changes: Any) -> str:
    return json.dumps(PRINTED | changes)


def program_that(folder: Path, script: str) -> Callers:
    file = folder / "load"
    file.write_text(f"#!{sys.executable}\nimport sys, time\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return Callers(file, EVERYWHERE)


def test_a_line_is_read() -> None:
    seen = read_seen(printed())
    assert (seen.per_second, seen.events_per_second, seen.trouble) == (5.0, 15.0, None)
    assert seen.latency == Times(4, 1.5, 3.0, 4.0, 4.5)
    assert seen.first_byte is seen.gap is None


def test_failures_are_told_with_the_first_reason() -> None:
    assert read_seen(printed(failed=3, why="reset")).trouble == "3 requests failed, the first one: reset"
    assert read_seen(printed(stuck=2)).trouble == "2 requests got no answer"


def test_the_program_is_told_everything(tmp_path: Path) -> None:
    line = printed()
    callers = program_that(
        tmp_path, f"open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv[1:]))\nprint({line!r})"
    )
    assert callers.run(80, Path("r"), 16, 2.0, events=3, leave=1, rate=9.5).done == 10
    assert (tmp_path / "asked").read_text() == (
        "--port 80 --requests r --warmup 0.3 --connections 16 --seconds 2.0 --events 3 --leave 1 --rate 9.5"
    )


def test_a_program_that_fails_is_told_with_what_it_said(tmp_path: Path) -> None:
    callers = program_that(tmp_path, "sys.exit('no such file')")
    with pytest.raises(CannotMeasure, match="the callers ended with 1: no such file"):
        callers.run(80, Path("r"), 1, 0.1)


def test_a_program_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.gateway.callers.SPARE_S", 0.2)
    callers = program_that(tmp_path, "time.sleep(60)")
    with pytest.raises(CannotMeasure, match=r"did not end 0.2 s after their time"):
        callers.run(80, Path("r"), 1, 0.1)


def test_a_block_left_early_ends_the_program(tmp_path: Path) -> None:
    callers = program_that(tmp_path, "time.sleep(60)")
    with callers.running(80, Path("r"), 1, 60.0) as process:
        assert process.poll() is None
    assert process.returncode == -9


def test_open_streams_are_read_from_the_first_line() -> None:
    assert opened(io.StringIO('{"open":9,"failed":1,"why":"reset"}\n')) == (9, 1, "reset")
    with pytest.raises(CannotMeasure, match="ended before their streams were open"):
        opened(io.StringIO(""))

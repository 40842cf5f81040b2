"""The document of a run holds everything, and is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtests.outcome.document import DocumentError, Seen, document, read, write
from loadtests.outcome.health import Second, WorkerHealth
from loadtests.outcome.rows import rows
from loadtests.outcome.slo import NO_SLO, Slo
from loadtests.suites import SUITES, plan_of
from tests.loadtests.outcome.made import row

SETTINGS = SUITES["ramp"].settings(models=("m",), duration_s=6.0, steps=2)
ROWS = [row(5000.0, phase=1), row(1000.0), row(2000.0, error="timeout", message="silence")]


def made(slo: Slo = NO_SLO) -> dict[str, Any]:
    seen = Seen(
        settings=SETTINGS,
        started_unix_s=1000.0,
        duration_s=6.0,
        rows=ROWS,
        seconds=[Second(1.0, 1, 0.2, 0.0, 3, 9, 9, 0.1, 0.1), Second(1.0, 0, 0.1, 0.0, 3, 9, 9, 0.1, 0.1)],
        workers=[WorkerHealth(0, planned=3, sent=3, wall_s=6.0)],
        service={"at_s": [0.0], "models": {}},
        marks=[{"at_s": 1.0, "what": "kill", "detail": "engine"}],
    )
    return document(seen, plan_of(SETTINGS), {"url": "u"}, {"machine": {}}, slo)


def test_every_request_is_in_it_in_the_order_in_which_they_were_due() -> None:
    assert rows(made()["requests"]) == sorted(ROWS, key=lambda one: one.begun_us)


def test_what_a_report_needs_is_in_it() -> None:
    found = made()
    assert (found["format"], found["version"], found["suite"], found["kind"]) == (
        "roundhouse-loadtest",
        1,
        "ramp",
        "open",
    )
    assert found["settings"]["seed"] == 0
    assert [phase["name"] for phase in found["phases"]] == ["2/s", "64/s"]
    assert found["series"]["generator"]["worker"] == [0, 1]
    assert found["series"]["service"] == {"at_s": [0.0], "models": {}}
    assert found["summary"]["knee"]["step"] == "64/s"  # half of the first step's requests failed, not for the load
    assert found["plan"]["digest"] == plan_of(SETTINGS).digest()
    assert found["generator"]["valid"]


def test_the_verdict_is_in_it() -> None:
    assert made()["verdict"]["kept"] is False
    assert made(Slo(failed_share=0.5, ttft_ms={"p99": 60.0}))["verdict"]["kept"] is True


@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
def test_it_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, made())
    assert read(tmp_path / name) == msgspec.json.decode(msgspec.json.encode(made()))


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "cannot be read"), ("{}", "no run of a load test"), ("[]", "no run"),
     ('{"format": "roundhouse-loadtest", "version": 99}', "of version 99")],
)  # fmt: skip
def test_something_else_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DocumentError, match=why):
        read(tmp_path / "run.json")
    with pytest.raises(DocumentError, match="cannot be read"):
        read(tmp_path / "none.json")

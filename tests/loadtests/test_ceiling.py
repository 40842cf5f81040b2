"""The generator's ceiling is measured by real runs against the engine in C."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.ceiling import best
from tests.loadtests.running import ROOT, environment


def measured(folder: Path, *words: str) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.ceiling", "--seconds", "2", "--json", "ceiling.json", *words], cwd=folder,
        env=environment(folder), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "ceiling.json").read_text()), done.stdout


def test_a_step_has_its_streams_its_events_and_whether_it_is_valid(tmp_path: Path) -> None:
    document, out = measured(tmp_path, "--streams", "10,20", "--rates", "none", "--pace", "20")
    assert [step["streams"] for step in document["streams"]] == [10, 20]
    assert [step["open_most"] for step in document["streams"]] == [10, 20]
    assert all(step["failed"] == 0 and step["gap_ms"]["count"] > 100 for step in document["streams"])
    assert all(step["gap_ms"]["p50"] > 15 for step in document["streams"])  # the pace that the engine was told
    assert document["requests"] == []
    assert f"ceiling of one generator core: {best(document['streams'])} (a token each 20 ms); not measured" in out


def test_short_requests_a_second_are_a_ceiling_too(tmp_path: Path) -> None:
    document, out = measured(tmp_path, "--streams", "none", "--rates", "50,100")
    assert [step["asked"] for step in document["requests"]] == [50, 100]
    for step in document["requests"]:
        assert step["failed"] == 0
        assert step["requests_per_s"] > step["asked"] * 0.7  # Poisson's, in two seconds
        assert step["send_late_ms"]["p99"] >= 0
        assert step["e2e_ms"]["count"] >= round(step["requests_per_s"] * 2)  # those that came in time
    assert best(document["requests"]) in out
    assert "100 requests/s:" in out


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([], "not measured"),
        ([{"valid": False, "asked": 5, "streams": 5, "events_per_s": 9}], "no step was valid"),
        (
            [
                {"valid": True, "asked": 2000, "streams": 2000, "events_per_s": 40600},
                {"valid": False, "asked": 4000, "streams": 4000, "events_per_s": 80000},
            ],
            "2000 streams, 40,600 events/s",
        ),
        (
            [
                {"valid": True, "asked": 9000, "requests_per_s": 9003.4},
                {"valid": True, "asked": 100, "requests_per_s": 99.0},
            ],
            "9,003 short requests/s",
        ),
    ],
)
def test_the_ceiling_is_the_largest_step_that_may_be_believed(steps: list[dict[str, Any]], told: str) -> None:
    assert best(steps) == told


@pytest.mark.parametrize("option", ["--streams", "--rates"])
def test_steps_that_are_no_numbers_are_refused(option: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "loadtests.ceiling", option, "many"]
    done = subprocess.run(words, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "must be numbers" in done.stderr

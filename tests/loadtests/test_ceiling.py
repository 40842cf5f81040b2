"""The generator's ceiling is measured by real runs against the engine in C."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.loadtests.running import ROOT, environment


def test_a_step_has_its_streams_its_events_and_whether_it_is_valid(tmp_path: Path) -> None:
    words = ["--streams", "10,20", "--seconds", "2", "--pace", "20", "--json", "ceiling.json"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.ceiling", *words], cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "ceiling.json").read_text())
    assert [step["streams"] for step in document["steps"]] == [10, 20]
    assert [step["open_most"] for step in document["steps"]] == [10, 20]
    assert all(step["failed"] == 0 and step["gap_ms"]["count"] > 100 for step in document["steps"])
    assert all(step["gap_ms"]["p50"] > 15 for step in document["steps"])  # the pace that the engine was told
    best = [step for step in document["steps"] if step["valid"]]
    assert f"{best[-1]['streams']} streams" in done.stdout if best else "none" in done.stdout


def test_steps_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "loadtests.ceiling", "--streams", "many"]
    done = subprocess.run(words, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "must be numbers" in done.stderr

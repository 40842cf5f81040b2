"""The simulator's speed is measured on requests that were really played."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.policies.options import Options
from loadtests.policies.packing import simulator
from loadtests.policies.report import Report


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "TRAFFIC", replace(simulator.TRAFFIC, duration_s=600.0))
    monkeypatch.setattr(simulator, "PASSES", 1)


def options(*only: str) -> Options:
    return Options(Path("."), None, only, Path("results"), 1)


def test_a_line_for_each_cluster_with_what_was_played() -> None:
    report = Report("packing")
    simulator.run(options(), report)
    assert [(one.goal, one.item) for one in report.figures] == [("M2", "all fit"), ("M2", "models swap")]
    assert all(
        one.value > 0 and one.details["requests"] > 1000 and one.others["decisions"] > 0 for one in report.figures
    )


def test_only_what_is_asked_for_is_played() -> None:
    report = Report("packing")
    simulator.run(options("M2/all*"), report)
    assert [one.item for one in report.figures] == ["all fit"]
    simulator.run(options("P1"), report)
    assert len(report.figures) == 1


def test_the_models_are_the_same_for_a_seed_and_fit_on_a_gpu() -> None:
    assert simulator.zoo(3) == simulator.zoo(3) != simulator.zoo(4)
    assert all(one.footprint.gpu_bytes <= simulator.GPU_BYTES for one in simulator.zoo(0))

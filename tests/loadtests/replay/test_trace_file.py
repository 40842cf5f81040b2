"""Traces and recordings as arrivals."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from loadtests.load.settings import Settings, SettingsError
from loadtests.replay.trace_file import arrivals
from tests.packers.sim.test_formats import TEXTS


def settings(**given: object) -> Settings:
    return Settings(**{"suite": "replay", "models": ("a", "m"), "duration_s": 1e9, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"servegen"}))
def test_every_format_is_played(name: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.gz"
    file.write_bytes(gzip.compress(TEXTS[name].encode()))
    plan = arrivals(file, settings(speed=2.0))
    assert len(plan.arrivals) == len([line for line in TEXTS[name].splitlines() if line.strip()]) - (
        name not in ("mooncake", "recording")
    )
    assert {arrival.wish.model for arrival in plan.arrivals} <= {"a", "m"}


def test_what_mooncake_says_of_shared_beginnings_is_played(tmp_path: Path) -> None:
    file = tmp_path / "mooncake.jsonl"
    file.write_text(TEXTS["mooncake"])
    plan = arrivals(file, settings(prefix_share=1.0))
    assert [arrival.wish.blocks for arrival in plan.arrivals] == [(0, 1), (0, 14)]
    assert {arrival.wish.prefix for arrival in plan.arrivals} == {-1}, "the trace's own, and no other"
    file.write_text(TEXTS["plain"])
    plan = arrivals(file, settings(prefix_share=1.0))
    assert {arrival.wish.blocks for arrival in plan.arrivals} == {()}
    assert -1 not in {arrival.wish.prefix for arrival in plan.arrivals}


def test_clients_that_are_described_arrive_at_the_rate_that_is_given(tmp_path: Path) -> None:
    file = tmp_path / "clients.csv"
    file.write_text(TEXTS["servegen"])
    plan = arrivals(file, settings(duration_s=20.0, rate_per_s=10.0, speed=30.0))
    assert len(plan.arrivals) == pytest.approx(200, rel=0.4)


def test_a_rate_takes_the_place_of_the_speed(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("time,model\n" + "".join(f"{second},a\n" for second in range(101)))
    plan = arrivals(file, settings(rate_per_s=50.0))
    assert plan.arrivals[-1].at_s == pytest.approx(101 / 50, rel=0.02)


@pytest.mark.parametrize(("seconds", "end_s"), [(3, 3.0), (30, 10.0)])
def test_a_trace_that_is_over_is_not_waited_for(tmp_path: Path, seconds: int, end_s: float) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("time,model\n" + "".join(f"{second},a\n" for second in range(seconds)))
    plan = arrivals(file, settings(duration_s=10.0, speed=1.0))
    assert (plan.end_s, plan.phases[-1].until_s) == (end_s, end_s)
    assert plan.arrivals[-1].at_s < end_s
    assert plan.phases[0].rate_per_s == pytest.approx(1.0)


def test_what_the_service_recorded_is_played_too(tmp_path: Path) -> None:
    header = {"kind": "header", "format": 1, "roundhouse": "0", "at_unix_s": 100.0}
    told = [("a", 100.5, 2), ("b", 100.5, 1), ("a", 101.0, 3)]
    lines = [header, {"kind": "step", "snapshot": {}}]
    lines += [{"kind": "arrivals", "at_s": at_s, "model": model, "count": count} for model, at_s, count in told]
    file = tmp_path / "recording.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    plan = arrivals(file, settings(speed=1.0))
    assert len(plan.arrivals) == 6
    assert sum(arrival.wish.model == "a" for arrival in plan.arrivals) == 5  # by its own name
    assert plan.arrivals[-1].at_s <= 1.5


@pytest.mark.parametrize("line", ["nonsense", '{"kind": "arrivals", "model": "a"}', "[]"])
def test_a_broken_recording_names_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "recording.jsonl"
    file.write_text('{"kind": "header"}\n' + line + "\n")
    with pytest.raises(SettingsError, match=r"recording\.jsonl:2: is no line of a recording"):
        arrivals(file, settings())


def test_a_recording_without_arrivals_says_so(tmp_path: Path) -> None:
    file = tmp_path / "recording.jsonl"
    file.write_text('{"kind": "header"}\n')
    with pytest.raises(SettingsError, match="has no arrivals"):
        arrivals(file, settings())


def test_nothing_within_the_time_is_no_load(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("time,model\n0,a\n50,a\n")
    assert len(arrivals(file, settings(duration_s=1.0)).arrivals) == 1
    file.write_text("time,model\n50,a\n90,a\n")
    assert arrivals(file, settings(duration_s=1.0)).arrivals[0].at_s == 0

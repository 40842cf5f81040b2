"""The autoscaling benchmark: its runs, its baselines, its lines; and stories that need the whole decision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtests.policies.autoscale import clairvoyant
from loadtests.policies.autoscale.__main__ import main
from loadtests.policies.autoscale.goals import cheapest_fixed
from loadtests.policies.autoscale.play import Run, Scaler, fixed, play
from loadtests.policies.autoscale.traces import Requests, shuffled
from packers.load import Aim

AIM = Aim(slots=4, start_s=12.0, wait_s=3.5)


def run(
    at_s: list[float],
    policy: str,
    *,
    begin: int = 1,
    service_s: float = 1.0,
    tick_s: float = 0.1,
    aim: Aim = AIM,
    least: int = 0,
) -> Run:
    return play(at_s, [service_s] * len(at_s), aim, Scaler(policy, tick_s, least, begin=begin))


def run_fixed(at_s: list[float], size: int = 1) -> Run:
    return play(at_s, [1.0] * len(at_s), AIM, fixed(size))


def bursts(number: int, every_s: float, count: int) -> list[float]:
    return [place * every_s + request * 0.01 for place in range(number) for request in range(count)]


def test_a_fixed_fleet_is_a_queue_with_that_many_slots() -> None:
    """Nine requests of a second at once on four slots: the last one waits for two seconds. Then the clock stops."""
    ran = run_fixed([0.0] * 9)
    assert ran.p99_wait_s == pytest.approx(2.0, abs=0.1)
    assert ran.gpu_hours == pytest.approx(2.0 / 3600)
    assert (ran.most, ran.starts) == (1, 0)


def test_a_start_takes_its_time_and_costs_it() -> None:
    ran = run([5.0], "demand", begin=0)
    assert ran.p99_wait_s == pytest.approx(12.0, abs=0.2)
    assert ran.gpu_hours == pytest.approx(12.0 / 3600, rel=0.02)
    assert ran.starts == 1


def test_what_is_not_wanted_goes_when_it_is_idle() -> None:
    """Knative's rule lets go of a silent model after its grace period and the windows: not at once, not never."""
    ran = run([0.0, 0.1, 400.0], "concurrency", begin=1)
    assert ran.starts == 1
    assert 100 / 3600 < ran.gpu_hours < 200 / 3600


def test_a_spike_is_served_within_two_starts_and_let_go() -> None:
    spike = [float(second) for second in range(60)] + [60 + request * 0.02 for request in range(1500)]
    spike += [200.0 + second for second in range(300)]
    ours, knative = run(spike, "ours"), run(spike, "concurrency", tick_s=2.0)
    assert ours.most < knative.most
    assert ours.gpu_hours < knative.gpu_hours
    assert ours.late_share <= knative.late_share


def test_a_backlog_of_the_start_is_not_mistaken_for_steady_load() -> None:
    """Three requests of a second each come in a second; they wait for the first start, and then there are 36."""
    steady = [number / 3 for number in range(180)]
    ours, knative = run(steady, "ours", begin=0), run(steady, "concurrency", begin=0, tick_s=2.0)
    assert knative.most >= 9
    assert ours.most <= 5
    assert ours.gpu_hours < knative.gpu_hours / 2


def test_trains_of_bursts_are_learned() -> None:
    """The first bursts wait for a start; later ones find what they need."""
    few, many = (run(bursts(number, 60.0, 40), "ours") for number in (3, 50))
    assert many.late_share < few.late_share / 4
    assert many.late_share < 0.05


def test_a_rare_caller_is_scaled_to_zero_and_a_frequent_one_is_not() -> None:
    rare = run([number * 1800.0 for number in range(12)], "ours", tick_s=2.0)
    frequent = run([number * 30.0 for number in range(200)], "ours", tick_s=2.0)
    assert rare.gpu_hours < 0.1 * 11 * 0.5
    assert frequent.late_share < 0.1


def test_steady_traffic_starts_no_more_than_its_first_seconds_asked_for() -> None:
    """Ten a second of a second each are 2.5 replicas."""
    steady = [number / 10 for number in range(12_000)]
    ours = run(steady, "ours")
    assert ours.late_share < 0.02
    # Requests are spread over all replicas, so what the first seconds started does not fall idle.
    assert ours.most <= 12


def test_the_clairvoyant_keeps_what_a_start_would_cost_more() -> None:
    at_s, service_s = [100.0, 105.0, 200.0], [1.0, 1.0, 1.0]
    hours = clairvoyant.gpu_hours(at_s, service_s, slots=4, start_s=12.0, min_replicas=0)
    # A start, 1 + 4 + 1 s, then gone and started again for the last one.
    assert hours == pytest.approx((12 + 6 + 12 + 1) / 3600)
    always = clairvoyant.gpu_hours(at_s, service_s, slots=4, start_s=12.0, min_replicas=1)
    assert always == pytest.approx(201.0 / 3600)


def test_the_clairvoyant_costs_no_more_than_anybody_without_waits() -> None:
    at_s = bursts(20, 30.0, 12)
    hours = clairvoyant.gpu_hours(at_s, [1.0] * len(at_s), slots=4, start_s=12.0, min_replicas=0)
    ran = run_fixed(at_s, 3)
    assert ran.p99_wait_s == 0.0
    assert hours <= ran.gpu_hours + 12 * 3 / 3600


@pytest.mark.parametrize("enough", [1, 2, 3, 7, 8, 33])
def test_the_cheapest_fixed_size_is_found(enough: int) -> None:
    asked = []

    def ran(size: int) -> Run:
        asked.append(size)
        return Run(0.0 if size >= enough else 9.0, 0.0, float(size), size, 0)

    assert cheapest_fixed(ran, 3.5).most == enough
    assert len(asked) == len(set(asked))


def test_other_orders_have_the_same_bursts() -> None:
    requests = Requests("a", tuple(bursts(9, 40.0, 5)), tuple(float(number) for number in range(45)))
    other = shuffled(requests, 1)
    assert sorted(other.service_s) == sorted(requests.service_s)
    assert other.service_s != requests.service_s
    assert other.at_s[0] == 0.0
    assert (np.diff(other.at_s) >= 0).all()
    assert other == shuffled(requests, 1)
    assert len(np.flatnonzero(np.diff(other.at_s) > 10)) == 8


def write(folder: Path, rows: list[str]) -> Path:
    (folder / "azure_llm2023").mkdir(parents=True)
    (folder / "azure_llm2023" / "small.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return folder


def test_it_prints_a_line_for_each_goal_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"2023-11-16 18:{minute:02d}:{second:02d}.5,1600,20" for minute in range(9) for second in range(0, 30, 2)]
    results = tmp_path / "out"
    asked = ["--data", str(write(tmp_path / "data", rows)), "--results", str(results), "--jobs", "1", "--seeds", "3"]
    assert main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    starts = [line.split(":")[0] for line in lines[:8]]
    assert (
        starts
        == ["A1 small"] * 2
        + ["A2 small"] * 2
        + ["A1 small, bursts in order 3"] * 2
        + ["A2 small, bursts in order 3"] * 2
    )
    assert "GPU-hours" in lines[1]
    assert "Knative" in lines[1]
    figures = json.loads((results / "autoscale.json").read_text())["figures"]
    assert {figure["name"] for figure in figures} == {"p99 wait", "GPU-hours"}


def test_a_bad_row_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", ["2023-11-16 18:00:00.5,1600,20", "2023-11-16 18:00:01.5,many,20"])
    assert main(["--data", str(data), "--results", str(tmp_path)]) == 1
    complaint = capsys.readouterr().err
    assert "small.csv:3" in complaint
    assert "ContextTokens" in complaint


def test_a_missing_folder_and_an_unknown_goal_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--results", str(tmp_path)]) == 1
    assert "azure_llm2023" in capsys.readouterr().err
    data = write(tmp_path / "data", ["2023-11-16 18:00:00.5,1600,20"])
    assert main(["--data", str(data), "--results", str(tmp_path), "--only", "A7"]) == 1
    assert "A1, A2" in capsys.readouterr().err


def test_the_aim_of_a_slow_start_is_not_that_of_a_quick_one() -> None:
    quick = replace(AIM, start_s=1.25, wait_s=0.7)
    at_s = bursts(25, 30.0, 30)
    slow_run, quick_run = run(at_s, "ours"), run(at_s, "ours", aim=quick)
    assert quick_run.gpu_hours < slow_run.gpu_hours

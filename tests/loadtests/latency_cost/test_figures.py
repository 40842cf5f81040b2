"""Rows of the page, from what the load tests leave."""

from __future__ import annotations

from typing import Any

import numpy as np

from loadtests.compare.outcome import outcome
from loadtests.compare.table import TITLES, cells
from loadtests.latency_cost.figures import gateway, most_ready, peers, spike, spoiled, tiers
from loadtests.load.plan import following
from loadtests.outcome.slo import NO_SLO, Good
from loadtests.outcome.summary import group, summary
from loadtests.report.sides import Pass, Side
from tests.loadtests.compare.made import run as compared_run
from tests.loadtests.latency_cost.made import PHASES, SERVICE
from tests.loadtests.outcome.made import row
from tests.loadtests.report.made import plan_of, rows_at, run, service_of


def span(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def line(metric: str, name: str, significant: bool = True, change: Any = None) -> dict[str, Any]:
    return {
        "metric": metric, "name": name, "first": span(10.0), "second": span(10.456), "significant": significant,
        "change": change or span(0.456, 0.4, 0.5),
    }  # fmt: skip


def test_the_gateways_cost_is_a_change_with_its_interval() -> None:
    report = {"lines": [line("e2e_ms", "p50", significant=False), line("ttft_ms", "p50"), line("failed", "share")]}
    assert gateway(report) == [
        ["TTFT p50", "10.00", "10.46", "+0.46 (+0.40 to +0.50)"],
        ["E2E p50", "10.00", "10.46", "+0.46 (+0.40 to +0.50), within chance"],
    ]


def test_a_change_that_cannot_be_bounded_says_so() -> None:
    report = {"lines": [line("ttft_ms", "p99", change=span(1.0, None, 2.0)), line("gap_ms", "p50", change=span(None))]}
    assert [row[-1] for row in gateway(report)] == ["+1.00 (too few requests for an interval)", "-"]


def test_each_tier_has_a_row() -> None:
    rows = [
        row(tag="disk", ttft_ms=300.0),
        row(tag="disk", ttft_ms=400.0),
        row(tag="gpu", ttft_ms=12.0, error="timeout"),
    ]
    made = {"summary": summary(rows, following(("first hits", 9.0, 0.0)), 9.0, Good())}
    assert tiers(made) == [
        ["stopped: no process", "2", "300.0", "300.0 to 400.0", "0"],
        ["ready", "1", "-", "-", "1"],
    ]


def phase(name: str, rate: float, *ttfts_ms: float, **fields: Any) -> dict[str, Any]:
    rows = [row(ttft_ms=ttft_ms, **fields) for ttft_ms in ttfts_ms]
    return {"name": name, "rate_per_s": rate, **group(rows, 10.0, Good())}


def test_a_spike_is_told_by_its_phases() -> None:
    alone = [phase("calm", 1.0, 9.0), phase("spike", 20.0, 30.0, 40.0)]
    through = [phase("calm", 1.0, 10.0), phase("spike", 20.0, 90.0, 95.0)]
    assert spike(alone, through, {"spike": 3}) == [
        ["calm, 1 a second", "1", "9.0", "9.0", "10.0", "10.0", "-", "0 / 0"],
        ["spike, 20 a second", "2", "30.0", "40.0", "90.0", "95.0", "3", "0 / 0"],
    ]


def test_replicas_are_counted_phase_by_phase_over_all_passes() -> None:
    def side(*services: dict[str, Any]) -> Side:
        rows = rows_at(np.random.default_rng(0), 60)
        plan = plan_of(60, phases=PHASES)
        return Side("through", tuple(Pass.of(run(rows, plan=plan, service=service)) for service in services))

    slower = service_of(3.0, **{"tiny-llama": [(0.0, "gpu", 1), (2.0, "gpu", 4)]})
    assert most_ready(side(SERVICE, slower), "tiny-llama") == {"calm": 1, "spike": 4}
    assert most_ready(side(SERVICE), "another") == {}
    assert most_ready(side({"problem": "no admin API"}), "tiny-llama") == {}


def test_peers_stand_as_in_the_comparison() -> None:
    made = outcome({"vllm": [compared_run([10, 20])]}, {"litellm": "not there"}, 1, NO_SLO)
    rows = peers(made)
    assert [each[0] for each in rows] == ["vllm", "litellm"]
    assert {len(each) for each in rows} == {len(TITLES)}
    assert rows == cells(made)


def test_why_a_targets_figures_do_not_count() -> None:
    made = outcome({"vllm": [compared_run([10], never_sent=2)]}, {"litellm": "not there"}, 1, NO_SLO)
    assert spoiled(made) == {"vllm": "2 of 3 planned requests were never sent", "litellm": "not there"}
    assert [row[1] for row in peers(made)] == ["-", "-"]

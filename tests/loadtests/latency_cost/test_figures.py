"""Rows of the page, from what the load tests leave."""

from __future__ import annotations

from typing import Any

from loadtests.compare.outcome import outcome
from loadtests.compare.table import TITLES
from loadtests.latency_cost.figures import gateway, peers, spike, tiers, validity
from loadtests.load.plan import following
from loadtests.outcome.slo import NO_SLO, Good
from loadtests.outcome.summary import summary
from tests.loadtests.compare.made import run
from tests.loadtests.outcome.made import row


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
    assert [row[-1] for row in gateway(report)] == ["+1.00 (- to +2.00)", "-"]


def test_each_tier_has_a_row() -> None:
    rows = [
        row(tag="disk", ttft_ms=300.0),
        row(tag="disk", ttft_ms=400.0),
        row(tag="gpu", ttft_ms=12.0, error="timeout"),
    ]
    made = {"summary": summary(rows, following(("first hits", 9.0, 0.0)), 9.0, Good())}
    assert tiers(made) == [
        ["stopped: no process", "2", "300.0", "400.0", "0 failed"],
        ["ready", "1", "-", "-", "1 failed"],
    ]


def test_a_spike_is_told_by_its_phases() -> None:
    phases = following(("calm", 10.0, 1.0), ("spike", 20.0, 20.0))
    rows = [row(ttft_ms=10.0), row(ttft_ms=90.0, phase=1), row(ttft_ms=95.0, phase=1)]
    shown = [{"name": phase.name, "rate_per_s": phase.rate_per_s} for phase in phases]
    made = {"phases": shown, "summary": summary(rows, phases, 30.0, Good())}
    assert spike(made) == [
        ["calm, 1 a second", "1", "10.0", "10.0", "0 failed"],
        ["spike, 20 a second", "2", "90.0", "95.0", "0 failed"],
    ]


def test_peers_stand_as_in_the_comparison() -> None:
    made = outcome({"vllm": [run([10, 20])]}, {"litellm": "not there"}, 1, NO_SLO)
    rows = peers(made)
    assert [each[0] for each in rows] == ["vllm", "litellm"]
    assert {len(each) for each in rows} == {len(TITLES)}


def test_figures_of_runs_that_are_not_valid_are_not_for_the_page() -> None:
    assert validity(run([10])) == []
    assert validity(run([10], never_sent=2)) == ["2 of 3 planned requests were never sent"]
    sides = [{"name": "direct", "reasons": []}, {"name": "through", "reasons": ["late"]}]
    assert validity({"sides": sides}) == ["through: late"]
    made = outcome({"vllm": [run([10], never_sent=2)]}, {"litellm": "not there"}, 1, NO_SLO)
    assert validity(made) == ["vllm: 2 of 3 planned requests were never sent", "litellm: not there"]

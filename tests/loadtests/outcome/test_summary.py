"""Figures of a run, and of its parts."""

from __future__ import annotations

import pytest

from loadtests.load.plan import following
from loadtests.outcome.slo import Good
from loadtests.outcome.summary import describe, group, summary
from tests.loadtests.outcome.made import row


def test_percentiles_are_of_every_gap_and_not_of_means() -> None:
    stalled = row(gaps_ms=(10.0,) * 98 + (500.0, 500.0), e2e_ms=3000.0)
    found = group([stalled], 1.0, Good())
    assert found["gap_ms"]["p50"] == 10
    assert found["gap_ms"]["p99"] == 500
    assert found["mean_gap_ms"]["p99"] == pytest.approx(19.8)


def test_failures_are_counted_by_code_and_their_times_left_out() -> None:
    slow = row(ttft_ms=9000.0, e2e_ms=9999.0, error="overloaded", message="no room")
    found = group([row(), slow, slow, row(error="timeout", message="silence")], 2.0, Good())
    assert (found["requests"], found["answered"], found["failed"], found["failed_share"]) == (4, 1, 3, 0.75)
    assert found["errors"][0] == {"code": "overloaded", "count": 2, "first": "no room"}
    assert found["ttft_ms"]["max"] == 50
    assert found["e2e_ms"]["count"] == 1


def test_rates() -> None:
    found = group([row()] * 10, 4.0, Good(ttft_ms=60))
    assert found["requests_per_s"] == found["goodput_per_s"] == 2.5
    assert found["output_tokens_per_s"] == 7.5
    assert found["input_tokens_per_s"] == 20
    assert group([row()] * 10, 4.0, Good(ttft_ms=40))["goodput_per_s"] == 0


def test_a_phase_has_its_own_figures() -> None:
    phases = following(("calm", 10.0, 1.0), ("spike", 5.0, 9.0))
    rows = [
        row(ttft_ms=10.0),
        row(11_000.0, ttft_ms=90.0, phase=1),
        row(12_000.0, ttft_ms=80.0, phase=1, tenant="quiet"),
    ]
    found = summary(rows, phases, 15.0, Good())
    assert [(phase["name"], phase["requests"], phase["ttft_ms"]["max"]) for phase in found["phases"]] == [
        ("calm", 1, 10.0), ("spike", 2, 90.0)
    ]  # fmt: skip
    assert found["phases"][1]["requests_per_s"] == 0.4
    assert found["tenants_by_phase"][1]["quiet"]["ttft_ms"]["p99"] == 80
    assert set(found["tenants"]) == {"quiet"}


def test_models_dialects_and_tags_are_told_apart() -> None:
    rows = [row(model="a", tag="disk"), row(model="b", dialect="messages", stream=False)]
    found = summary(rows, following(("all", 1.0, 1.0)), 1.0, Good())
    assert set(found["models"]) == {"a", "b"}
    assert set(found["dialects"]) == {"chat", "messages (whole)"}
    assert set(found["tags"]) == {"disk"}


def test_what_the_service_told_of_its_time() -> None:
    rows = [row(timing_ms={"auth": 0.1, "queue": 5.0}), row(timing_ms={"auth": 0.3})]
    found = group(rows, 1.0, Good())["server_timing_ms"]
    assert (found["auth"]["count"], found["auth"]["max"], found["queue"]["count"]) == (2, 0.3, 1)


def test_nothing_at_all() -> None:
    found = group([], 1.0, Good())
    assert (found["requests"], found["ttft_ms"], found["good_share"]) == (0, {"count": 0}, None)
    assert describe([]) == {"count": 0}


def test_tokens_are_of_the_time_in_which_they_came() -> None:
    """Ten of them, one a second from 1 s on; four are there after four seconds."""
    long = row(ttft_ms=1000.0, gaps_ms=(1000.0,) * 9, e2e_ms=10_500.0)
    found = summary([long], following(("first", 4.0, 1.0), ("second", 4.0, 1.0)), 8.0, Good())
    assert [phase["output_tokens_per_s"] for phase in found["phases"]] == [1.0, 1.0]
    assert (found["output_tokens_per_s"], found["requests_per_s"], found["answered"]) == (1.0, 0.0, 1)


def test_what_is_answered_when_the_load_is_over_is_not_of_its_time() -> None:
    flood = [row(100.0 * at, ttft_ms=1000.0 * at, e2e_ms=1000.0 * at + 50.0) for at in range(40)]
    found = summary(flood, following(("flood", 4.0, 10.0)), 4.0, Good())
    assert (found["answered"], found["requests_per_s"], found["phases"][0]["requests_per_s"]) == (40, 1.0, 1.0)


def test_what_is_left_of_a_spike_is_answered_in_the_calm_after_it() -> None:
    phases = following(("spike", 2.0, 4.0), ("after", 2.0, 0.5))
    rows = [row(250.0 * at, ttft_ms=250.0 * at, e2e_ms=250.0 * at + 250.0, tenant="quiet") for at in range(8)]
    rows.append(row(3000.0, e2e_ms=500.0, ttft_ms=400.0, phase=1, tenant="quiet"))
    found = summary(rows, phases, 4.0, Good())
    assert [(phase["requests"], phase["requests_per_s"]) for phase in found["phases"]] == [(8, 2.0), (1, 2.5)]
    assert [part["quiet"]["requests_per_s"] for part in found["tenants_by_phase"]] == [2.0, 2.5]


def test_a_run_that_was_stopped_has_no_time_after_its_end() -> None:
    phases = following(("first", 10.0, 1.0), ("second", 10.0, 1.0))
    first, second = summary([row(1000.0 * at) for at in range(4)], phases, 5.0, Good())["phases"]
    assert (first["requests_per_s"], second["requests_per_s"]) == (0.8, 0.0)

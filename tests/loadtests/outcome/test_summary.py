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
    rows = [row(ttft_ms=10.0), row(ttft_ms=90.0, phase=1), row(ttft_ms=80.0, phase=1, tenant="quiet")]
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

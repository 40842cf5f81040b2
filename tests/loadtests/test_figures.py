"""Samples become the figures that are reported; nothing is rounded away on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.figures import Tally, describe, one_line, percentile

samples = st.lists(st.floats(0, 1e6), min_size=1)


def test_nearest_rank_picks_samples_that_exist() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [percentile(ordered, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 99) == 7


@given(samples, st.floats(0.1, 100))
def test_at_least_the_percentage_of_samples_does_not_exceed_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(sorted(values), percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9


@given(samples)
def test_figures_are_in_order(values: list[float]) -> None:
    figures = describe(values)
    assert figures["count"] == len(values)
    assert figures["min_ms"] <= figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"] <= figures["max_ms"]


def test_without_samples_there_is_only_the_count() -> None:
    assert describe([]) == {"count": 0}


def busy_tally() -> Tally:
    tally = Tally()
    for n in range(10):
        tally.record("TTFT", "llama", 10.0 + n)
        tally.record("ITL", "llama", 2.25)
        tally.record("E2E", "llama", 100.0)
    tally.record("E2E", "qwen", 9999.0, "503: no room")
    tally.record("E2E", "qwen", 9999.0, "503: no room")
    return tally


def test_failures_are_counted_in_the_servers_words_and_their_times_left_out() -> None:
    summary = busy_tally().summary(duration_s=5)
    assert (summary["requests"], summary["failures"]) == (12, 2)
    assert summary["errors"] == [{"error": "qwen: 503: no room", "count": 2}]
    assert summary["E2E"]["max_ms"] == 100
    assert summary["ITL"]["p50_ms"] == 2.25
    assert summary["models"]["llama"]["TTFT"]["count"] == 10
    assert "qwen" not in summary["models"]


def test_one_line_says_it_all() -> None:
    line = one_line(busy_tally().summary(duration_s=5))
    assert line == (
        "12 requests, 2 failures in 5.0 s (2.4 requests/s, 4 tokens/s) | TTFT p50/p95/p99 14.0/19.0/19.0 ms"
        " | ITL p50/p95/p99 2.2/2.2/2.2 ms | E2E p50/p95/p99 100.0/100.0/100.0 ms"
    )


@pytest.mark.parametrize("duration_s", [0.0, 1.0])
def test_a_run_without_answers_has_a_line_too(duration_s: float) -> None:
    line = one_line(Tally().summary(duration_s))
    assert line.startswith("0 requests, 0 failures")
    assert line.endswith("TTFT none | ITL none | E2E none")

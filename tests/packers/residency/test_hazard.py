"""How soon the next request is expected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.residency.hazard import chance, index_per_s, per_s, rate_per_s
from packers.usage import BINS, SPANS, UNUSED, Usage, gap_bin
from tests.packers.residency.past import usage


def test_a_model_never_used_is_not_expected() -> None:
    assert per_s(UNUSED, 100.0) == 0.0
    assert chance(UNUSED, 100.0, 1e9) == 0.0


def test_only_its_last_use_known_the_recent_one_comes_first() -> None:
    assert per_s(Usage(3, 90.0), 100.0) > per_s(Usage(3, 10.0), 100.0) > 0


def test_after_its_usual_gaps_are_over_a_model_is_expected_less() -> None:
    bursty = usage(range(100))
    assert per_s(bursty, 100.0) > 5 * per_s(bursty, 160.0) > 25 * per_s(bursty, 900.0)


def test_one_with_long_gaps_is_not_given_up_as_early() -> None:
    """Both were used 50 s ago: the one that is used every minute will be soon, the other's burst is over."""
    minutely = usage(range(0, 3_600, 60))
    bursty = usage([begin + more for begin in (0, 1_750, 3_500) for more in range(40)])
    assert per_s(minutely, 3_590.0) > 1.5 * per_s(bursty, 3_589.0)


def test_it_looks_ahead_to_a_use_that_is_not_due_yet() -> None:
    gaps = [0.0] * BINS
    gaps[gap_bin(600.0)] = 100.0
    known, unknown = tuple(gaps), tuple([0.0] * BINS)
    assert index_per_s(known, gap_bin(300.0)) > 1 / 700
    assert index_per_s(known, gap_bin(500.0)) > 1.2 * index_per_s(known, gap_bin(10.0)), "it comes nearer"
    assert index_per_s(known, gap_bin(5_000.0)) < index_per_s(unknown, gap_bin(600.0)), "and has stayed away"


def test_rates_over_a_span() -> None:
    assert rate_per_s(usage(range(0, 100_000, 10)), 100_000.0, SPANS.index(64)) == pytest.approx(0.1, rel=0.05)
    assert rate_per_s(UNUSED, 5.0, 0) == 0.0


@given(
    st.lists(st.floats(0.01, 1e5), min_size=2, max_size=80),
    st.floats(0, 1e6),
    st.floats(1.0, 1e5),
)
def test_chances_are_chances_and_grow_with_time(gaps_s: list[float], idle_s: float, within_s: float) -> None:
    times_s = [sum(gaps_s[:place]) for place in range(len(gaps_s))]
    seen, now_s = usage(times_s), times_s[-1] + idle_s
    assert per_s(seen, now_s) > 0
    assert 0 <= chance(seen, now_s, within_s) <= chance(seen, now_s, 2 * within_s) <= 1


@given(st.lists(st.floats(1.0, 100.0), min_size=5, max_size=60), st.floats(1.0, 500.0))
def test_gaps_know_no_scale_of_time(gaps_s: list[float], idle_s: float) -> None:
    """A log that is sixteen times slower has a sixteenth of the index at sixteen times the idle time."""

    def index(scale: float) -> float:
        gaps = [0.0] * BINS
        for gap_s in gaps_s:
            gaps[gap_bin(gap_s * scale)] += 1.0
        return index_per_s(tuple(gaps), gap_bin(idle_s * scale))

    assert index(16.0) == pytest.approx(index(1.0) / 16.0, rel=0.02)

"""What is remembered of a model's requests."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.usage import BINS, MOST_GAPS, SPANS, UNUSED, Usage, UsageTracker, bin_start_s, gap_bin
from tests.packers.residency.past import usage


def test_nothing_is_known_before_the_first_request() -> None:
    assert UsageTracker().usage(5.0) == UNUSED
    assert UNUSED.decayed_per_s(100.0) == 0.0


def test_arrivals_and_the_last_one_are_counted() -> None:
    seen = usage([1.0, 4.0, 9.0])
    assert (seen.arrivals, seen.last_s) == (3, 9.0)
    assert sum(seen.gaps) == 2
    assert seen.gaps[gap_bin(3.0)] == 1
    assert seen.gaps[gap_bin(5.0)] == 1


def test_several_at_once_are_gaps_of_nothing() -> None:
    tracker = UsageTracker()
    tracker.arrive(2.0, count=4)
    seen = tracker.usage(2.0)
    assert (seen.arrivals, seen.gaps[0]) == (4, 3)


def test_a_clock_that_goes_back_is_taken_for_standing_still() -> None:
    assert usage([10.0, 8.0]).last_s == 10.0


def test_short_spans_follow_a_change_and_long_ones_remember() -> None:
    quick, slow = usage([*range(0, 60_000, 600), *range(60_000, 60_100, 10)]), usage(range(0, 60_100, 600))
    short_s, *_, long_s = (60_100 - centre_s for centre_s in quick.centres_s)
    assert short_s < 300 < 10_000 < long_s
    assert slow.centres_s[0] < quick.centres_s[0]


def test_bursts_are_measured_by_how_many_come_within_ten_seconds() -> None:
    starts = range(0, 10_000, 1_000)
    assert usage([begin + more for begin in starts for more in (0, 1, 2, 3)]).burst == pytest.approx(4.0)
    assert usage(starts).burst == 1.0


def test_the_decayed_rate_halves_with_time() -> None:
    seen = usage(range(0, 9_000, 10))
    assert seen.decayed_per_s(9_000) == pytest.approx(0.1, rel=0.02)
    assert seen.decayed_per_s(9_000 + 900 * math.log(2)) == pytest.approx(seen.decayed_per_s(9_000) / 2)


def test_old_gaps_fade() -> None:
    seen = usage([*range(3_000), *range(3_000, 3_000 + 600 * MOST_GAPS, 600)])
    assert seen.gaps[gap_bin(600)] > 0.7 * sum(seen.gaps)
    assert sum(seen.gaps) <= MOST_GAPS


def test_it_can_be_written_and_read_back() -> None:
    seen = usage([1.0, 2.0, 50.0])
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Usage) == seen
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(UNUSED), type=Usage) == UNUSED


def test_another_tracker_goes_on_where_one_stopped() -> None:
    seen = usage([1.0, 2.0, 50.0])
    heir = UsageTracker.of(seen, 60.0)
    assert heir.usage(60.0) == seen
    heir.arrive(70.0)
    after = heir.usage(70.0)
    assert after.arrivals == 4
    assert after.gaps == usage([1.0, 2.0, 50.0, 70.0]).gaps
    assert after.centres_s == usage([1.0, 2.0, 50.0, 70.0]).centres_s
    assert UsageTracker.of(UNUSED, 5.0).usage(5.0) == UNUSED


@given(st.floats(0, 1e9))
def test_every_gap_falls_into_the_bin_that_begins_before_it(gap_s: float) -> None:
    place = gap_bin(gap_s)
    assert 0 <= place < BINS
    assert bin_start_s(place) <= gap_s * (1 + 1e-9)
    assert place == BINS - 1 or gap_s < bin_start_s(place + 1) * (1 + 1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_whatever_comes_the_books_stay_sane(times_s: list[float]) -> None:
    seen = usage(sorted(times_s))
    assert seen.arrivals == len(times_s)
    assert sum(seen.gaps) == len(times_s) - 1
    assert len(seen.centres_s) == len(SPANS)
    assert all(centre_s <= seen.last_s for centre_s in seen.centres_s)
    assert seen.burst >= 1
    assert seen.rate_per_s > 0

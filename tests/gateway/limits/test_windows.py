from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.windows import NEVER_US, SLOTS, Shape, UnknownWindow, window_of
from models.store.tenancy import What
from tests.gateway.limits.stage import rule


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("per", "at", "begins", "ends"),
    [
        ("day", "2026-11-22T08:30", "2026-11-22", "2026-11-23"),
        ("week", "2026-11-22T08:30", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00", "2026-11-23", "2026-11-30"),
        ("month", "2026-11-30T23:59", "2026-11-01", "2026-12-01"),
        ("month", "2026-12-01T00:00", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29T12:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_periods_of_the_calendar_are_in_utc(per: str, at: str, begins: str, ends: str) -> None:
    window = window_of(rule(What.MONEY, 1, per))
    slot = window.slot(us(at))
    assert (slot, window.ends_us(slot), window.frees_us(slot)) == (us(begins), us(ends), us(ends))


def test_for_ever_has_no_end() -> None:
    window = window_of(rule(What.MONEY, 1, "ever"))
    assert window.ends_us(window.slot(us("2026-11-22"))) == NEVER_US


@given(at_us=st.integers(0, 2**53), per=st.sampled_from(["1s", "7s", "1m", "90m", "24h", "30d"]))
def test_what_is_used_counts_for_the_window_and_less_than_two_slots_more(at_us: int, per: str) -> None:
    window = window_of(rule(What.TOKENS, 1, per))
    counts_us = window.frees_us(window.slot(at_us)) - at_us
    assert window.length_us < counts_us <= (SLOTS + 1) * window.slot_us
    assert window.slot_us * SLOTS - window.length_us < SLOTS


@pytest.mark.parametrize("per", ["", "m", "0m", "1y", "1.5h", "fortnight", "-1s"])
def test_what_nobody_can_count_by_is_refused(per: str) -> None:
    with pytest.raises(UnknownWindow, match="per: "):
        window_of(rule(What.TOKENS, 1, per))


def test_what_is_counted_at_once_has_no_window() -> None:
    assert window_of(rule(What.CONCURRENT, 1)).shape is Shape.AT_ONCE

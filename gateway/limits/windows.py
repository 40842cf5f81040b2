"""When what was used counts no more: windows that slide, the calendar's periods, and none for what is only at once.

A sliding window has SLOTS slots. What is used counts in the slot of its time, and while that slot touches the window:
the present slot and the SLOTS before it. So what any window of that length holds is never more than what was counted at
one moment, and the window that is kept is up to one slot longer than the one that was asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import lru_cache

from models.store.tenancy import CALENDAR, LimitRule, What

SLOTS = 60
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
NEVER_US = 1 << 62
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PER = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Shape(IntEnum):
    SLIDING = 0
    CALENDAR = 1
    AT_ONCE = 2


class UnknownWindow(ValueError):
    """A rule's ``per`` is nothing that can be counted by."""


@dataclass(frozen=True, slots=True)
class Window:
    """``slot_us``: how long one of its slots is; 0 where it has none. ``period``: which of the calendar's."""

    shape: Shape
    length_us: int = 0
    slot_us: int = 0
    period: str = ""

    def slot(self, at_us: int) -> int:
        """In which slot this time is; of a calendar's period the number is the Unix microsecond that it begins at."""
        if self.shape is Shape.SLIDING:
            return at_us // self.slot_us
        return _begin_us(self.period, at_us) if self.shape is Shape.CALENDAR else 0

    def ends_us(self, slot: int) -> int:
        """When the next slot begins."""
        if self.shape is Shape.SLIDING:
            return (slot + 1) * self.slot_us
        return _next_us(self.period, slot) if self.shape is Shape.CALENDAR else NEVER_US

    def frees_us(self, slot: int) -> int:
        """From when on what was used in this slot counts no more."""
        if self.shape is Shape.SLIDING:
            return (slot + SLOTS + 1) * self.slot_us
        return self.ends_us(slot)


@lru_cache(maxsize=4096)
def window_of(rule: LimitRule) -> Window:
    """Raises UnknownWindow."""
    if rule.what is What.CONCURRENT:
        return Window(Shape.AT_ONCE)
    if rule.per in CALENDAR:
        return Window(Shape.CALENDAR, period=rule.per)
    found = _PER.fullmatch(rule.per)
    if found is None:
        raise UnknownWindow(f"per: {rule.per[:40]!r} is neither a length such as 1m or 24h nor one of {CALENDAR}")
    length_us = int(found[1]) * _UNITS_S[found[2]] * SECOND_US
    return Window(Shape.SLIDING, length_us, -(-length_us // SLOTS))


def _begin_us(period: str, at_us: int) -> int:
    if period == "ever":
        return 0
    day_us = at_us - at_us % DAY_US
    if period == "day":
        return day_us
    day = _EPOCH + timedelta(microseconds=day_us)
    back = day.weekday() if period == "week" else day.day - 1
    return day_us - back * DAY_US


def _next_us(period: str, begin_us: int) -> int:
    if period == "ever":
        return NEVER_US
    if period == "day":
        return begin_us + DAY_US
    if period == "week":
        return begin_us + 7 * DAY_US
    begin = _EPOCH + timedelta(microseconds=begin_us)
    after = begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    return (after - _EPOCH) // timedelta(microseconds=1)

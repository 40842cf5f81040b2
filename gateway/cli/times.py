"""Times to come, as people type them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from gateway.cli.errors import AskedWrongly
from models.catalog.errors import UnitError
from models.catalog.units import parse_seconds

_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?", re.ASCII)
_DURATION = re.compile(r"[0-9.]+\s*[A-Za-z]+", re.ASCII)
_HOW = "give a time of day (18:00), a duration (2h, 30m) or a date and time (2026-11-22T18:00Z)"


def parse_until(text: str, now: datetime) -> float:
    """Unix seconds. Times without a zone are meant in that of ``now``, which is this machine's where it has none.

    A time of day is the next one; a duration counts from now. Raises AskedWrongly.
    """
    given = text.strip()
    match = _TIME_OF_DAY.fullmatch(given)
    if match is not None:
        return _next(now, int(match[1]), int(match[2]), int(match[3] or 0))
    if _DURATION.fullmatch(given):
        try:
            return now.timestamp() + parse_seconds(given)
        except UnitError as problem:
            raise AskedWrongly(f"--until: {problem.message}", code="usage", cure=_HOW) from None
    return _date(given, now)


def _next(now: datetime, hour: int, minute: int, second: int) -> float:
    at = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
    if at.timestamp() <= now.timestamp():
        at = (at.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=now.tzinfo)
    return at.timestamp()


def _date(given: str, now: datetime) -> float:
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise AskedWrongly(f"--until: {given[:60]!r} is no time", code="usage", cure=_HOW) from None
    at_s = (at if at.tzinfo is not None else at.replace(tzinfo=now.tzinfo)).timestamp()
    if at_s <= now.timestamp():
        raise AskedWrongly(f"--until: {given[:60]!r} is over", code="usage", cure="name a time that is to come")
    return at_s

"""Spans of the books, as callers write them: ``7d``, ``2026-11-01``, ``2026-11-01T08:00Z``, Unix seconds. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from gateway.errors import InvalidRequest

HOUR_S = 3600
DAY_S = 86_400
_UNITS_S = {"m": 60, "h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S}
_AGO = re.compile(r"([0-9]{1,6})([mhdw])", re.ASCII)
_UNIX = re.compile(r"[0-9]{9,11}", re.ASCII)
_HOW = "write how long ago (30m, 24h, 7d, 2w), a date or time in UTC (2026-11-01, 2026-11-01T08:00Z) or Unix seconds"


def span(since: str, until: str | None, now_s: float) -> tuple[float, float]:
    """Unix seconds. Raises InvalidRequest."""
    begins = moment(since, now_s, "since")
    ends = now_s if until is None else moment(until, now_s, "until")
    if begins >= ends:
        raise InvalidRequest("since must lie before until, and not in the future.", param="since")
    return begins, ends


def moment(text: str, now_s: float, param: str) -> float:
    """Unix seconds. Raises InvalidRequest naming ``param``."""
    given = text.strip()
    if given == "now":
        return now_s
    ago = _AGO.fullmatch(given)
    if ago is not None:
        return max(0.0, now_s - int(ago[1]) * _UNITS_S[ago[2]])
    if _UNIX.fullmatch(given):
        return float(given)
    try:
        at = datetime.fromisoformat(given)
        return max(0.0, (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{param}: {given[:40]!r} is no time; {_HOW}.", param=param) from None


def listed(text: str, known: tuple[str, ...], param: str) -> tuple[str, ...]:
    """``tenant,model`` as its parts. Raises InvalidRequest naming what is unknown."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for part in found:
        if part not in known:
            raise InvalidRequest(f"{param}: {part[:40]!r} is not one of {', '.join(known)}.", param=param)
    return found

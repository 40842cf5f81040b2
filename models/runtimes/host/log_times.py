"""When a line of a log was written, by what it says of itself: the many ways in which programs write the time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

SEARCHED = 400  # characters from the line's beginning

# Ours, Ray's, structlog's (inside JSON): 2026-01-02 03:04:05,678 or 2026-01-02T03:04:05.678Z
_ISO = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
# vLLM's: INFO 01-02 03:04:05 [core.py:12]
_VLLM = re.compile(r"^(?:\(\w+[^)]*\) )?[A-Z]+ (?P<month>\d\d)-(?P<day>\d\d) (?P<time>\d\d:\d\d:\d\d)\b")
# Redis': 7:M 02 Jan 2026 03:04:05.678 *
_REDIS = re.compile(r"^\d+:[A-Z] (?P<day>\d\d \w{3} \d{4}) (?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d+))?")


def time_of(line: str, now: datetime) -> float | None:
    """Unix seconds; None when the line does not say. A time without a zone is this machine's, one without a year the
    latest that is not after ``now`` (aware)."""
    head = line[:SEARCHED]
    try:
        if found := _ISO.search(head):
            at = datetime.fromisoformat(f"{found['day']}T{found['time']}{found['zone'] or ''}")
            return _unix_s(at, found["fraction"])
        if found := _VLLM.search(head):
            return _without_year(found, now)
        if found := _REDIS.search(head):
            at = datetime.strptime(f"{found['day']} {found['time']}", "%d %b %Y %H:%M:%S")  # noqa: DTZ007 - local
            return _unix_s(at, found["fraction"])
    except (ValueError, OverflowError):  # digits that are no time
        return None
    return None


def _unix_s(at: datetime, fraction: str | None) -> float:
    return at.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def _without_year(found: re.Match[str], now: datetime) -> float:
    for year in (now.year, now.year - 1):
        at = datetime.fromisoformat(f"{year}-{found['month']}-{found['day']}T{found['time']}")
        if at.astimezone(UTC) <= now + timedelta(days=1):
            return at.timestamp()
    return at.timestamp()

"""Where the time to the first token went, request by request: the answer's own Server-Timing, and what the caller saw.

=========== ============================================================================================================
``late``    from when it was due to when the generator sent it
``auth``    the gateway checks the key
``queue``   it waits for a place on a busy replica
``wake``    it waits for its model to start or wake
``connect`` the gateway connects to the engine
``engine``  Server-Timing's ``engine-ttfb`` (to the engine's first event), and from when the caller had the answer's
            head to its first token: the first event need not have text
``network`` the rest of the way to the answer's head: the caller's own connection, the wire, and what of the gateway's
            work no other part has (reading the request, sending it on)
=========== ============================================================================================================

They add up to the TTFT; to the end-to-end time where nothing is streamed. Of a server that tells no Server-Timing,
``engine`` is all but ``late``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loadtests.outcome.rows import Row

GATEWAY = ("auth", "queue", "wake", "connect")
PARTS = ("late", *GATEWAY, "engine", "network")
ENGINE_HEAD = "engine-ttfb"
TYPICAL = (0.40, 0.60)
SLOW = 0.95
FEWEST = 5  # requests that a mean is taken of
# The same of all sides, whichever of their requests failed: of fewer than 100, these are more than 5%.
SLOWEST = f"Slowest 5%, at least {FEWEST} requests"
MOST_TAGS = 4


def parts_ms(row: Row) -> dict[str, float] | None:
    """None for what failed or has no first byte."""
    if row.error or row.first_byte_us is None:
        return None
    until_us = row.first_token_us if row.first_token_us is not None else row.end_us
    late_us = row.late_us or 0
    if ENGINE_HEAD not in row.timing_ms:
        return {"late": late_us / 1e3, "engine": (until_us - row.sent_us) / 1e3}
    head_us = row.first_byte_us if row.head_us is None else row.head_us
    told = {name: row.timing_ms.get(name, 0.0) for name in GATEWAY}
    engine_ms = row.timing_ms[ENGINE_HEAD]
    return {
        "late": late_us / 1e3,
        **told,
        "engine": engine_ms + (until_us - head_us) / 1e3,
        "network": (head_us - row.sent_us) / 1e3 - engine_ms - sum(told.values()),
    }


@dataclass(frozen=True, slots=True)
class Fall:
    """Means of some requests. ``title``: which; ``parts_ms``: in the order of PARTS, what there was of them."""

    title: str
    requests: int
    parts_ms: dict[str, float]

    @property
    def total_ms(self) -> float:
        return sum(self.parts_ms.values())


def total_ms(row: Row) -> float:
    return (row.first_token_us if row.first_token_us is not None else row.end_us) / 1e3 - row.begun_us / 1e3


def falls(rows: Sequence[Row]) -> list[Fall]:
    """Of a suite that tags its requests: one for each tag, in the order of their cost. Else of the requests around the
    median, and of the slowest twentieth, or of the five slowest where that is more."""
    known = sorted((row for row in rows if parts_ms(row) is not None), key=total_ms)
    tags = sorted({row.tag for row in known if row.tag})
    if 1 < len(tags) <= MOST_TAGS:
        made = [_fall(tag, [row for row in known if row.tag == tag]) for tag in tags]
        return sorted(made, key=lambda fall: fall.total_ms)
    if not known:
        return []
    found = [_fall("Typical: around the median", _band(known, *TYPICAL))]
    slow = _band(known, SLOW, 1.0)
    return [*found, _fall(SLOWEST, slow)] if len(known) > 2 * FEWEST else found


def whole(rows: Sequence[Row]) -> Fall:
    return _fall("all", [row for row in rows if parts_ms(row) is not None])


def column(rows: Iterable[Row], read: Callable[[dict[str, float]], float]) -> list[list[float]]:
    """One figure of each request's parts, for ``loadtests.report.statistic``."""
    found = (parts_ms(row) for row in rows)
    return [[] if parts is None else [read(parts)] for parts in found]


def _band(ordered: Sequence[Row], low: float, high: float) -> Sequence[Row]:
    count = len(ordered)
    first, last = int(count * low), max(int(count * high), int(count * low) + 1)
    while last - first < min(FEWEST, count):
        first, last = (first, last + 1) if last < count and (last - first) % 2 else (max(0, first - 1), last)
    return ordered[first:last]


def _fall(title: str, rows: Sequence[Row]) -> Fall:
    sums = dict.fromkeys(PARTS, 0.0)
    seen: set[str] = set()
    for row in rows:
        parts = parts_ms(row) or {}
        seen |= parts.keys()
        for name, value in parts.items():
            sums[name] += value
    return Fall(title, len(rows), {name: sums[name] / len(rows) for name in PARTS if name in seen})

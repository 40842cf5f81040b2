"""The x-ratelimit-* headers, in the words of OpenAI's API: what is allowed, what is left, and when all of it is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from gateway.limits.counter import Counter
from gateway.limits.windows import NEVER_US, SECOND_US

_NEVER = b"876000h0m0s"  # what is for ever comes back no sooner than in a hundred years


class Teller:
    """Of one kind, requests or tokens: three lines, of the rule that has least left."""

    __slots__ = ("_counter", "_first", "_heads", "_newest", "_others", "_reset_line", "_stands_until_us", "_tail")

    def __init__(self, kind: str, counters: Sequence[Counter]) -> None:
        name = kind.encode()
        self._first, self._others = counters[0], tuple(counters[1:])
        self._heads = {
            counter: b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: " % (name, counter.amount, name)
            for counter in counters
        }
        self._tail = b"\r\nx-ratelimit-reset-%b: " % name
        # The last of the three, for how long it stands, and of what it tells.
        self._reset_line, self._stands_until_us = b"", 0
        self._counter: Counter | None = None
        self._newest = 0

    def lines(self, now_us: int) -> bytes:
        counter = self._first
        left = counter.left - counter.here
        for other in self._others:
            if other.left - other.here < left:
                counter, left = other, other.left - other.here
        if left < 0:
            left = 0
        elif left > counter.amount:
            left = counter.amount
        newest = counter.slot if counter.here > 0 or counter.since > 0 else counter.newest
        if now_us >= self._stands_until_us or newest != self._newest or counter is not self._counter:
            self._set_reset(counter, newest, now_us)
        return b"%b%d%b" % (self._heads[counter], left, self._reset_line)

    def _set_reset(self, counter: Counter, newest: int, now_us: int) -> None:
        resets_us = counter.resets_us(now_us)
        if resets_us < SECOND_US:
            ms = resets_us // 1000
            self._stands_until_us = 0
        else:
            seconds = -(-resets_us // SECOND_US)
            ms = seconds * 1000
            self._stands_until_us = now_us + resets_us - (seconds - 1) * SECOND_US
        self._counter, self._newest = counter, newest
        self._reset_line = b"%b%b\r\n" % (self._tail, duration(ms))


@lru_cache(maxsize=8192)
def duration(ms: int) -> bytes:
    """As Go writes them: 12ms, 1s, 6m0s, 24h0m0s."""
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    if ms * 1000 > NEVER_US // 4:
        return _NEVER
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, seconds)
    return b"%dm%ds" % (minutes, seconds) if minutes else b"%ds" % seconds

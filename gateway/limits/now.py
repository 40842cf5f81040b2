"""The time that limits go by: steady, in whole microseconds, and cheap enough for every request."""

from __future__ import annotations

from gateway.clock import Clock

LOOK_S = 0.5  # the steady clock is followed by the monotonic one for so long: 5 ms apart at most


class Now:
    """Unix microseconds by the worker's steady clock; they never go back."""

    __slots__ = ("_ahead_s", "_last_us", "_looked_s", "_monotonic", "_steady")

    def __init__(self, clock: Clock) -> None:
        self._monotonic, self._steady = clock.monotonic, clock.steady
        self._looked_s = float("-inf")
        self._ahead_s = 0.0
        self._last_us = 0

    def __call__(self) -> int:
        now_s = self._monotonic()
        if now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            self._ahead_s = self._steady() - now_s
        now_us = int((now_s + self._ahead_s) * 1e6)
        if now_us < self._last_us:
            return self._last_us
        self._last_us = now_us
        return now_us

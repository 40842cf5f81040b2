"""A worker's place in the master's care: when whoever has it is to be replaced. Decides; starts nothing."""

from __future__ import annotations

# A worker that dies sooner than that after it answered may have met what its successor will meet as well.
SETTLED_S = 5.0
FIRST_WAIT_S = 0.05
# Callers of a dead worker wait for its successor: never longer than this before it is started.
LONGEST_WAIT_S = 0.4


class Post:
    """Times are of the monotonic clock. ``due_s``: from when on a worker is to be started; None while one runs."""

    __slots__ = ("due_s", "ever_ready", "index", "pid", "quick_ends", "ready", "restarts", "started_s")

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid: int | None = None
        self.due_s: float | None = 0.0
        self.ready = False
        self.ever_ready = False
        self.started_s = 0.0
        self.quick_ends = 0
        self.restarts = 0

    def is_due(self, now_s: float) -> bool:
        return self.due_s is not None and self.due_s <= now_s

    def started(self, pid: int, now_s: float) -> None:
        self.pid = pid
        self.due_s = None
        self.started_s = now_s

    def answers(self) -> None:
        self.ready = self.ever_ready = True

    def ended(self, now_s: float) -> float:
        """Seconds until it is started again: none after a life of some length, then doubling up to LONGEST_WAIT_S."""
        settled = self.ready and now_s - self.started_s >= SETTLED_S
        self.quick_ends = 0 if settled else self.quick_ends + 1
        wait_s = 0.0 if self.quick_ends <= 1 else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (self.quick_ends - 2))
        self.pid = None
        self.ready = False
        self.restarts += 1
        self.due_s = now_s + wait_s
        return wait_s

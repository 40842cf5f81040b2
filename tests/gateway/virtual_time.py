"""An event loop whose clock jumps: a story of minutes runs in milliseconds, and in the same order every time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.clock import Clock

T = TypeVar("T")
EPOCH_UNIX_S = 1_700_000_000.0


class EverythingWaits(AssertionError):
    """No task can go on and no timer is set: the story hangs."""


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise EverythingWaits
            self.now_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def play(story: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


def loop_clock() -> Clock:
    """Both clocks follow the running loop; the Unix one starts at EPOCH_UNIX_S."""
    loop = asyncio.get_running_loop()
    return Clock(unix=lambda: EPOCH_UNIX_S + loop.time(), monotonic=loop.time)

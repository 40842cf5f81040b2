"""Ctrl-C while one run of several goes on: that run ends with what it has, and no other one begins."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

Found = TypeVar("Found")


def whole(run: Callable[[], Found]) -> Found:
    """What ``run`` finds. Ctrl-C reaches its children, which end by themselves; here it raises KeyboardInterrupt, but
    not before ``run`` is over; a second one is for ``run`` itself. Beyond the main thread, where signals cannot be
    handled, it does not come."""
    if threading.current_thread() is not threading.main_thread():
        return run()
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        found = run()
    finally:
        signal.signal(signal.SIGINT, before)
    if seen:
        raise KeyboardInterrupt
    return found

"""Time as the gateway's parts get it: passed in, so that tests run on their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """``unix`` for what other processes read; ``monotonic`` for durations and deadlines (the event loop's clock)."""

    unix: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

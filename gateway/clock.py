"""Time as the gateway's parts get it: passed in, so that tests run on their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from models.clock import SteadyClock


@dataclass(frozen=True, slots=True)
class Clock:
    """``unix`` for what other processes read; ``monotonic`` for durations and deadlines (the event loop's clock).

    ``steady``: Unix time that never jumps, for times that are compared with earlier ones, here and by the controller.
    """

    unix: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    steady: Callable[[], float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steady", SteadyClock(self.unix, self.monotonic))

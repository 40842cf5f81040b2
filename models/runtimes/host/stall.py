"""Notices a model that hangs: it has requests, answers none of them, and computes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_EVERY_S = 1.0
STALLED_AFTER_S = 60.0
# A share of one processor. An idle engine's housekeeping takes a tenth of it; a model that computes, a whole one.
IDLE_SHARE = 0.02


class StallWatch:
    """Fed with a look a second; says once that nothing has moved for ``after_s``.

    A long prefill, or a long answer that is not streamed, sends nothing for minutes as well, but it uses the processor:
    only both together are a hang. Time in which this process itself did not run (a suspended machine) does not count.
    """

    def __init__(self, after_s: float = STALLED_AFTER_S) -> None:
        self._after_s = after_s
        self._still_s = 0.0
        self._used_s = 0.0
        self._progress = -1

    def look(self, elapsed_s: float, in_flight: int, progress: int, used_s: float) -> bool:
        """``elapsed_s`` since the last look, ``used_s``: processor time within it. Whether it hangs."""
        if not in_flight or progress != self._progress:
            self._progress, self._still_s, self._used_s = progress, 0.0, 0.0
            return False
        self._still_s += min(elapsed_s, 2 * LOOK_EVERY_S)
        self._used_s += used_s
        if self._still_s < self._after_s:
            return False
        hangs = self._used_s < IDLE_SHARE * self._still_s
        self._still_s = self._used_s = 0.0
        return hangs

    async def stalled(
        self, in_flight: Callable[[], int], progress: Callable[[], int], cpu_s: Callable[[], float]
    ) -> str:
        """Wait for a hang; one clear sentence."""
        clock = asyncio.get_running_loop().time
        at_s, used_s = clock(), cpu_s()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now_s, now_used_s = clock(), cpu_s()
            if self.look(now_s - at_s, in_flight(), progress(), now_used_s - used_s):
                return (
                    f"the model hangs: for {self._after_s:.0f} s it has answered none of its {in_flight()} requests"
                    " and computed nothing"
                )
            at_s, used_s = now_s, now_used_s

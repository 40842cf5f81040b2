"""Listens to an engine's pulse: a renewal of its lease every few seconds, and how long the last one went unanswered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

BEAT_EVERY_S = 2.5
LISTEN_S = 0.5
# Ready or asleep, an engine has nothing to do that would keep it from answering: what computes does so in threads.
SILENT_AFTER_S = 15.0
# Falling asleep and waking move memory, and a driver may hold up the whole process meanwhile.
CHANGING_SILENT_AFTER_S = 60.0
ASK_STACKS_AFTER = 0.5  # of the patience: time enough to write down where it hangs


class Pulse:
    """``beat`` asks the engine for a sign of life and returns when it has given one; it may raise when it is gone.

    ``patience_s`` is asked for anew at each look: how long silence is borne now, ``inf`` while it loads. Time in which
    this process itself did not run (a suspended machine, a stopped owner) does not count as silence.
    """

    def __init__(
        self,
        beat: Callable[[], Awaitable[object]],
        patience_s: Callable[[], float],
        worried: Callable[[], None],
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._beat = beat
        self._patience_s = patience_s
        self._worried = worried
        self._clock = clock

    async def stopped(self) -> float:
        """Wait until the engine has been silent for longer than is borne; for how many seconds it has been.

        Raises what ``beat`` raises.
        """
        while True:
            silent_s = await self._listen()
            if silent_s:
                return silent_s
            await asyncio.sleep(BEAT_EVERY_S)

    async def _listen(self) -> float:
        """One beat; 0 when it came."""
        clock = self._clock or asyncio.get_running_loop().time
        beating = asyncio.ensure_future(self._beat())
        silent_s, worried = 0.0, False
        try:
            while True:
                before_s = clock()
                await asyncio.wait((beating,), timeout=LISTEN_S)
                if beating.done():
                    beating.result()
                    return 0.0
                silent_s += min(clock() - before_s, 2 * LISTEN_S)
                patience_s = self._patience_s()
                if silent_s >= patience_s:
                    return silent_s
                if not worried and silent_s >= patience_s * ASK_STACKS_AFTER:
                    worried = True
                    self._worried()
        finally:
            beating.cancel()

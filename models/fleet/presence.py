"""Whether a node is there, away or lost, from when it last answered and what Ray says of it. Pure.

A node whose Ray process was killed, whose cable was pulled and whose power failed look alike from outside. Engines
serve on in the first two cases, so that nothing is given up before there was time to come back; a machine that is truly
gone is therefore known to be gone only after LOST_AFTER_S.
"""

from __future__ import annotations

from typing import Literal

State = Literal["there", "away", "lost"]

AWAY_AFTER_S = 4.0
LOST_AFTER_S = 30.0  # without an answer, where Ray has given it up
SILENT_LOST_AFTER_S = 60.0  # without an answer, where Ray has not: its actor hangs, or cannot be started again
LONGEST_STEP_S = 2.0  # time in which nobody looked (this process was suspended) is no silence


class Presence:
    """``now``: any clock that only moves forward, in seconds."""

    def __init__(self, now: float) -> None:
        self._looked_s = now
        self.silent_s = 0.0

    def answered(self, now: float) -> None:
        self._looked_s = now
        self.silent_s = 0.0

    def look(self, now: float, given_up: bool | None) -> State:
        """``given_up``: by Ray; None when Ray's head cannot be asked, and then nobody knows enough to lose a node."""
        self.silent_s += min(now - self._looked_s, LONGEST_STEP_S)
        self._looked_s = now
        if self.silent_s < AWAY_AFTER_S:
            return "there"
        if given_up is None:
            return "away"
        return "lost" if self.silent_s >= (LOST_AFTER_S if given_up else SILENT_LOST_AFTER_S) else "away"

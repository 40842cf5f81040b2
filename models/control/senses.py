"""Whether the loop knows enough to decide.

What it decides from are the gateways' reports, which come through Redis, and it may act only on what Redis has taken
down. So it observes and decides nothing

1. while Redis does not answer: engines that die, or become ready, are seen; whatever follows from that waits;
2. after that, after it stood still itself (its process was suspended), and at first where engines live but Redis knows
   nothing of them: until every worker has reported again, or would have been forgotten.

Otherwise a silence that is nobody's would look as if no caller were left, and everything would be put down.
"""

from __future__ import annotations

import logging

from models.control.demand import DemandBook
from models.store.keys import DEMAND_TTL_S

log = logging.getLogger("roundhouse.control")
STOOD_STILL_S = 1.0  # a step is due ten times a second, and workers report once a second
REPORTS_WITHIN_S = 2.0  # a worker that cannot be counted on yet, because nobody knows of it, reports within this time


class Senses:
    """Owned by the loop. All times are by its clock."""

    def __init__(self) -> None:
        self._looked_s: float | None = None
        self._problem = ""  # why nothing can be written
        self._unsure_since_s: float | None = None
        self._unsure_until_s = 0.0

    @property
    def store_answers(self) -> bool:
        return not self._problem

    def doubt(self, now: float, for_s: float = REPORTS_WITHIN_S) -> None:
        """Workers may be there that nobody has heard of yet."""
        self._unsure_since_s, self._unsure_until_s = now, max(self._unsure_until_s, now + for_s)

    def look(self, demand: DemandBook, now: float) -> None:
        """At the beginning of a step, before what has come meanwhile is taken in."""
        passed_s = 0.0 if self._looked_s is None else now - self._looked_s
        self._looked_s = now
        if passed_s >= STOOD_STILL_S:
            log.warning("the loop stood still for %.1f s", passed_s)
        if passed_s >= STOOD_STILL_S or self._problem:
            demand.missed(passed_s)
            self._unsure_since_s, self._unsure_until_s = now, now + DEMAND_TTL_S

    def may_decide(self, demand: DemandBook, now: float) -> bool:
        """Once what has come is taken in."""
        if self._problem:
            return False
        if self._unsure_since_s is None:
            return True
        heard = demand.workers > 0 and demand.all_heard_since(self._unsure_since_s)
        if heard or now >= self._unsure_until_s:
            self._unsure_since_s, self._unsure_until_s = None, 0.0
        return self._unsure_since_s is None

    def wrote(self) -> None:
        if self._problem:
            log.warning("Redis answers again, scaling resumes")
        self._problem = ""

    def could_not_write(self, problem: Exception) -> None:
        text = f"{type(problem).__name__}: {problem}"
        if text != self._problem:
            log.warning("Redis does not take what is to be written, scaling pauses: %s", text)
        self._problem = text

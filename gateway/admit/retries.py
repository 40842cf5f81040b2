"""The budget of retries: what breaks must not be made worse by everybody trying again at once (promise R2)."""

from __future__ import annotations

from collections import OrderedDict

from gateway.admit.ticket import Ticket

MOST_PER_REQUEST = 2
MOST_PART = 0.2  # of the active requests may be retries
ALWAYS = 3  # may be retries in any case: a fifth of a few requests is none


class Retries:
    """Of one model. ``going``: those on their way or at a replica, until they are answered. What is over it waits."""

    def __init__(self) -> None:
        self.going = 0
        self.waiting: OrderedDict[int, Ticket] = OrderedDict()

    def limit(self, in_flight: int) -> int:
        """``in_flight``: the model's requests on replicas; those that wait to be tried again are active too."""
        return max(ALWAYS, int(MOST_PART * (in_flight + len(self.waiting))))

    def take(self, in_flight: int) -> bool:
        """One more may go, and goes."""
        if self.going >= self.limit(in_flight):
            return False
        self.going += 1
        return True

    def next(self, in_flight: int) -> Ticket | None:
        """The one that waited longest, with its part of the budget; None while there is no room or nobody."""
        if not self.waiting or not self.take(in_flight):
            return None
        return self.waiting.popitem(last=False)[1]

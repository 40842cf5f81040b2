"""What one request has of its limits, or waits for."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.limits.needs import Need, Seat
from gateway.limits.plan import Plan


class Hold:
    """What was reserved for one request. Given back or made up for by ``Limiter.settle``, once.

    ``taken``: units of each of the plan's ``others``; what was taken of the usual ones follows from ``need``.
    ``at_us``: when it was admitted. ``by_time``: it is to be held against its budgets while it runs
    (``Limiter.extend``).
    """

    __slots__ = ("at_us", "need", "plan", "settled", "taken")

    def __init__(self, plan: Plan, need: Need, taken: list[int], at_us: int) -> None:
        self.plan, self.need, self.taken, self.at_us = plan, need, taken, at_us
        self.settled = False

    @property
    def by_time(self) -> bool:
        return self.plan.by_time


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that waits for the store's word. ``taken``: units of each of the plan's ``entries``. ``again_us``: it
    is asked a second time, not before then."""

    plan: Plan
    need: Need
    taken: list[int]
    seat: Seat
    tries: int = 0
    again_us: int = 0

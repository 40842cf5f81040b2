"""What an autoscaling policy is given, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packers.load import DEFAULT_AIM, Aim, Load, ScaleMemory
from packers.types import Demand, Model, StartTimes


@dataclass(frozen=True, slots=True)
class ScaleContext:
    """A model at ``now_s``. ``ready``, ``starting``, ``asleep``: how many replicas it has of each, leaving ones apart.

    ``start_s``: from the order to a ready replica, of the tier that would be used next; ``ready_in_s``: how long each
    starting one still needs, where that is known. ``keep_price``: GPU-seconds that keeping a replica for a second
    costs: 1 where GPUs are paid for by the second, 0 where nobody else wants them, more where many do.
    """

    now_s: float
    model: Model
    ready: int
    starting: int
    asleep: int
    start_s: float
    memory: ScaleMemory
    ready_in_s: tuple[float, ...] = ()
    aim: Aim = DEFAULT_AIM
    keep_price: float = 1.0

    @property
    def demand(self) -> Demand:
        return self.model.demand

    @property
    def load(self) -> Load:
        return self.model.load

    @property
    def slots(self) -> int:
        return max(1, self.model.target_in_flight)

    @property
    def coming(self) -> int:
        return self.ready + self.starting

    @property
    def in_flight(self) -> int:
        """On replicas that stay: with none ready, what is in flight runs on ones that leave, which will finish it."""
        return self.demand.in_flight if self.ready else 0

    @property
    def in_use(self) -> int:
        """Replicas that what is in flight needs."""
        return -(-self.in_flight // self.slots)


@dataclass(frozen=True, slots=True)
class Scale:
    """``count`` replicas should serve, ``why``; ``memory`` is for the next time.

    ``linger_s``: a replica beyond them goes once it was idle for so long; None: for its model's ``ttl_s``.
    """

    count: int
    why: str
    memory: ScaleMemory
    linger_s: float | None = None


Autoscaler = Callable[[ScaleContext], Scale]


def next_start_s(startup: StartTimes, asleep: int) -> float:
    """Of the tier that the next replica would come from: host RAM while one sleeps there, else disk."""
    return startup.host_s if asleep else startup.disk_s

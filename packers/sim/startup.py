"""How long it takes until a replica is ready: a fixed part, then its weights at some bandwidth.

    seconds(tier) = fixed_s + weights_bytes / bytes_per_s

Loads on one node also share its link to the GPUs (``Node.link_bytes_per_s``, ``packers.sim.link``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from packers.types import Model, Replica, StartTimes


@dataclass(frozen=True, slots=True)
class TierTime:
    """``bytes_per_s`` infinite: the size does not matter."""

    fixed_s: float
    bytes_per_s: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.fixed_s < math.inf:
            raise ValueError(f"fixed_s must be 0 or more, got {self.fixed_s}")
        if not self.bytes_per_s > 0:
            raise ValueError(f"bytes_per_s must be above 0, got {self.bytes_per_s}")

    def seconds(self, weights_bytes: int) -> float:
        return self.fixed_s + weights_bytes / self.bytes_per_s


@dataclass(frozen=True, slots=True)
class StartUp:
    """``disk``: from no process to ready; ``host``: out of a sleep in RAM. ``sleep``: falling asleep, once drained.

    The defaults are the ones that the project's residency goals are stated for: 8 s + bytes at 3 GB/s, 1 s + bytes at
    20 GB/s; leaving takes no time there.
    """

    disk: TierTime = TierTime(8.0, 3e9)
    host: TierTime = TierTime(1.0, 20e9)
    sleep: TierTime = TierTime(0.0)
    stop_s: float = 0.0
    resize_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("stop_s", "resize_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")

    @classmethod
    def constant(cls, disk_s: float, host_s: float | None = None) -> StartUp:
        """The same for every model."""
        return cls(TierTime(disk_s), TierTime(disk_s if host_s is None else host_s))

    def transfer(self, replica: Replica, wakes: bool) -> tuple[float, float]:
        """Bytes that a load moves, and the most bytes a second at which it does.

        Of a tensor-parallel group, each GPU holds ``weights_bytes``: one disk is read for all of them, while RAM
        feeds every GPU at full speed.
        """
        size_bytes = float(replica.footprint.weights_bytes * len(replica.gpus))
        return size_bytes, self.host.bytes_per_s * len(replica.gpus) if wakes else self.disk.bytes_per_s

    def times(self, model: Model) -> StartTimes:
        """What production would have measured of a load that shares the link with nobody."""
        weights_bytes = model.footprint.weights_bytes
        disk_s = self.disk.seconds(weights_bytes * model.tensor_parallel)
        return StartTimes(disk_s, self.host.seconds(weights_bytes))


GOAL_START_UP = StartUp()


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured load."""

    weights_bytes: int
    seconds: float
    weight: float = field(default=1.0)  # a mean of n loads counts n times


def fit_tier(samples: Iterable[Sample]) -> TierTime:
    """Fixed time and bandwidth that explain measured loads best: weighted least squares of seconds on bytes.

    One size only, or times that do not grow with the size: all of it is fixed time. A negative fixed time becomes 0,
    and the bandwidth is fitted again. Raises ValueError without a sample, or for one that is negative or NaN.
    """
    found = tuple(samples)
    if not found:
        raise ValueError("there is no sample to fit a start-up time to")
    for place, one in enumerate(found):
        if not (one.weights_bytes >= 0 and 0 <= one.seconds < math.inf and 0 < one.weight < math.inf):
            raise ValueError(f"sample {place} has to have 0 or more bytes and seconds and a weight above 0: {one}")
    size = np.array([float(one.weights_bytes) for one in found])
    took = np.array([one.seconds for one in found])
    weight = np.array([one.weight for one in found])
    mean_size, mean_took = np.average(size, weights=weight), np.average(took, weights=weight)
    spread = float(np.sum(weight * (size - mean_size) ** 2))
    slope = float(np.sum(weight * (size - mean_size) * (took - mean_took))) / spread if spread else 0.0
    if slope <= 0:
        return TierTime(float(mean_took))
    fixed_s = float(mean_took - slope * mean_size)
    if fixed_s < 0:
        return TierTime(0.0, float(np.sum(weight * size * size) / np.sum(weight * size * took)))
    return TierTime(fixed_s, 1 / slope)

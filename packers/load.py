"""What is known of a model's last minutes, for autoscaling: arrivals and concurrency over time, service times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """As of the last change. Times in seconds of the caller's clock."""

    arrivals: int = 0


@dataclass(frozen=True, slots=True)
class ScaleMemory:
    """What an autoscaling policy wants to be told the next time it is asked about the model."""

    count: int = 0


NO_LOAD, NO_MEMORY = Load(), ScaleMemory()

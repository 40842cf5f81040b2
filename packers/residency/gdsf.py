"""GreedyDual-Size-Frequency (Cherkasova 1998; as keep-alive in FaasCache, Fuerst and Sharma, ASPLOS 2021).

    priority = clock + uses x start-up time / size

The published clock is the priority of whoever was evicted last; it makes what was not used for long grow cheap. A
decision that keeps nothing between two calls has no such clock. Time stands for it: whoever was used once and takes a
second per gigabyte to start again is kept ``LIFE_S`` longer than one that costs nothing. ``uses`` are those of this
stay: its rate over the last 64 arrivals times its length.
"""

from __future__ import annotations

from packers.residency.hazard import rate_per_s
from packers.residency.stay import Residency, Stay, Tier
from packers.types import Model

LIFE_S = 600.0
GIGABYTE = 1e9
SPAN = 2  # of packers.usage.SPANS


def worth(model: Model, stay: Stay) -> float:
    """When it should go, in seconds of the caller's clock."""
    start_s = model.startup.disk_s if stay.tier is Tier.HOST or not model.can_sleep else model.startup.host_s
    stayed_s = max(0.0, stay.last_use_s - stay.since_s)
    uses = 1.0 + min(stayed_s * rate_per_s(model.usage, stay.last_use_s, SPAN), max(0, model.usage.arrivals - 1))
    return stay.last_use_s + LIFE_S * uses * start_s / max(stay.size_bytes / GIGABYTE, 1e-3)


GDSF = Residency("gdsf", worth, "the least used for its size and start-up time that may go")

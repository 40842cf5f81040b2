"""Decayed request rate x seconds to start again; per byte, the least goes first.

The rule of cost-aware web caches (Young 1994; Cao and Irani, GreedyDual-Size, USITS 1997) with an exponentially decayed
rate (``packers.usage.DECAY_S``) as the estimate of when it is used next.
"""

from __future__ import annotations

from packers.residency.stay import Residency, Stay, Tier
from packers.types import Model


def worth(model: Model, stay: Stay) -> float:
    """Seconds of start-up that are saved per second of keeping it."""
    start_s = model.startup.disk_s
    if stay.tier is Tier.HOST:
        start_s = max(0.0, start_s - model.startup.host_s)
    return model.usage.decayed_per_s(stay.now_s) * start_s


RATE = Residency("rate", worth, "the least requested for its size and start-up time that may go", adds_up=True)

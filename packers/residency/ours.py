"""Expected delay saved per byte and second.

    worth = requests expected per second (``packers.residency.hazard``) x what one that finds the copy gone costs

The cost is in seconds, that of falling one tier: a ready replica falls to host RAM if it can sleep (else to disk), a
sleeping one to disk. It is the start-up time, and ``DELAYED_S`` for each request that is delayed by it: the first, and
those of the same burst that come while it starts. For a sleeping copy it is what a start costs more than a wake.
Whom to let go is then a question of the least sum of worths that makes enough room (``packers.eviction``); and what is
worth more than what holds the memory is brought back (``packers.residency.prewarm``).
"""

from __future__ import annotations

from packers.residency.hazard import per_s
from packers.residency.stay import Residency, Stay, Tier
from packers.types import Model
from packers.usage import BURST_S

DELAYED_S = 3.0
LONGEST_BURSTS = 1.5  # of BURST_S: a burst is not followed any further


def cost_s(model: Model, start_s: float) -> float:
    """Of one start that takes ``start_s``, to the callers."""
    others = max(0.0, model.usage.burst - 1.0) * min(start_s / BURST_S, LONGEST_BURSTS)
    return start_s + DELAYED_S * (1.0 + others)


def worth(model: Model, stay: Stay) -> float:
    """Seconds of delay that are saved per second of keeping it."""
    startup = model.startup
    if stay.tier is Tier.HOST:
        saved_s = cost_s(model, startup.disk_s) - cost_s(model, startup.host_s)
    else:
        saved_s = cost_s(model, startup.host_s if model.can_sleep else startup.disk_s)
    return per_s(model.usage, stay.now_s) * max(0.0, saved_s)


OURS = Residency("ours", worth, "what saves the least delay that may go", adds_up=True, barters=True)

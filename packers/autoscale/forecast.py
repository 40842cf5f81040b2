"""A forecast around any policy: what this time of earlier days asked for is there before it is asked for again."""

from __future__ import annotations

import math
from dataclasses import replace

from packers.autoscale.context import Autoscaler, Scale, ScaleContext

UTILISATION = 0.7


def forecast(policy: Autoscaler) -> Autoscaler:
    """Raises what ``policy`` wants to what the load profile of earlier periods expects a start-up time from now.

    ``Load.expected`` is the highest load of those quarters of an hour; replicas are taken to be 70% full at it.
    """

    def foreseen(context: ScaleContext) -> Scale:
        scale = policy(context)
        expected = context.load.expected or 0.0
        count = math.ceil(expected / (context.slots * UTILISATION) - 1e-9)
        if count <= scale.count:
            return scale
        why = f"at this time of earlier days {expected:.1f} requests were under way at once"
        return replace(scale, count=count, why=why)

    return foreseen

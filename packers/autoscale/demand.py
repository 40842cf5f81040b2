"""As many replicas as what is in flight or held fills: the simplest rule. Its surplus stays for the model's ttl."""

from __future__ import annotations

import math
from dataclasses import replace

from packers.autoscale.context import Autoscaler, Scale, ScaleContext
from packers.explain import count as counted


def demand(context: ScaleContext) -> Scale:
    requests = context.demand.held + context.in_flight
    count = -(-requests // context.slots)
    why = f"{counted(requests, 'request')} in flight or held"
    return Scale(count, why, replace(context.memory, count=count))


def utilised(share: float) -> Autoscaler:
    """The same, but with only ``share`` of each replica's requests in flight. Raises ValueError outside ]0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")

    def policy(context: ScaleContext) -> Scale:
        requests = context.demand.held + context.in_flight
        count = math.ceil(requests / (context.slots * share) - 1e-9)
        why = f"{counted(requests, 'request')} in flight or held, {share:.0%} of what fits"
        return Scale(count, why, replace(context.memory, count=count), linger_s=0.0)

    return policy

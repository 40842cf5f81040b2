"""What holds for every policy, wrapped around it: bounds, delays and the size of a step. Each is a pure function."""

from __future__ import annotations

import math
from dataclasses import replace

from packers.autoscale.context import Autoscaler, Scale, ScaleContext
from packers.autoscale.recent import highest, lowest
from packers.scaling import kept_why


def bounded(policy: Autoscaler) -> Autoscaler:
    """``min_replicas`` to ``max_replicas``, and one at least while somebody waits or an operator asks.

    A ``min_replicas`` above ``max_replicas`` wins.
    """

    def within(context: ScaleContext) -> Scale:
        scale, model = policy(context), context.model
        asked = context.demand.held > 0 or context.in_flight > 0 or context.demand.operator_wake
        count = scale.count
        why = scale.why
        if asked and count < 1:
            count = 1
            why = "an operator asked for it" if context.demand.operator_wake else "requests are in flight or held"
        if count < model.min_replicas or (count == 0 and not asked):
            count, why = max(count, model.min_replicas), kept_why(model)
        most = max(model.max_replicas, model.min_replicas)
        if count > most:
            count, why = most, f"{why}; max_replicas is {most}"
        return replace(scale, count=count, why=why)

    return within


def delayed(policy: Autoscaler, up_s: float = 0.0, down_s: float = 0.0) -> Autoscaler:
    """More replicas once they were wanted for ``up_s`` on end, fewer once for ``down_s``; one of them has to be 0.

    Raises ValueError for negative delays, and for two at once.
    """
    if not (up_s >= 0 and down_s >= 0) or (up_s and down_s):
        raise ValueError(f"one delay above 0 at a time: up_s is {up_s}, down_s is {down_s}; wrap twice for both")

    def later(context: ScaleContext) -> Scale:
        scale = policy(context)
        asked = scale.memory.asked
        if up_s:
            count, asked = lowest(asked, context.now_s, scale.count, up_s)
        else:
            count, asked = highest(asked, context.now_s, scale.count, down_s)
        why = scale.why if count == scale.count else f"{scale.why}; not changed before {up_s or down_s:g} s"
        return replace(scale, count=count, why=why, memory=replace(scale.memory, asked=asked))

    return later


def stepped(policy: Autoscaler, up: float = math.inf, down: float = math.inf) -> Autoscaler:
    """At most ``up`` replicas more, and ``down`` fewer, than there are now. Raises ValueError for steps below 1."""
    if not (up >= 1 and down >= 1):
        raise ValueError(f"a step is one replica at least: up is {up}, down is {down}")

    def limited(context: ScaleContext) -> Scale:
        scale = policy(context)
        now = context.coming
        count = int(min(max(scale.count, now - down), now + up))
        why = scale.why if count == scale.count else f"{scale.why}; a step at a time"
        return replace(scale, count=count, why=why)

    return limited

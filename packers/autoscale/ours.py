"""Ours: what traffic asks for, what it may ask for before a start would be done, and what waits, each on its own.

The highest of these is wanted, and stays so for a second (``DIP_S``):
1. What is in flight. It is never scaled away.
2. While requests come: the learned ``busy`` replicas, and ``growth`` times those that the traffic of the last moments
   would keep in use had nobody to wait. Held requests do not count here: they are not steady load.
3. The backlog, to be worked off once: the work that is in flight and held, less what the ready replicas and the
   starting ones can do until one that was ordered now would be ready. What is left is to be done within ``wait_s``
   after that, or until the first held request gives up. A backlog that is gone by then needs nobody.
4. While nothing comes: the learned ``idle`` replicas, as long as keeping them costs less than what it saves: the
   chance per second that requests come again, after a silence this long, times the requests that would be late then,
   times what one is worth. When it does not pay: none (scale to zero), or, of those that are there, as many as cost
   nobody anything.

Rules 2 and 4 are learned by ``packers.autoscale.surges``; the quantile of demand over the lead time is in ``growth``.
"""

from __future__ import annotations

import math
from dataclasses import replace

from packers.autoscale.context import Scale, ScaleContext
from packers.autoscale.recent import highest
from packers.autoscale.surges import USE_MIN
from packers.explain import count as counted
from packers.load import GAP_MIN_S, Load, gap_bin

SHORTEST_PATIENCE_S = 0.1
# A replica that just became ready gets its first request in a moment, and what is wanted may dip for one.
DIP_S = 1.0


def ours(context: ScaleContext) -> Scale:
    wants = [_traffic(context), _backlog(context), _in_flight(context)]
    count, why = max(wants, key=lambda want: want[0])
    highest_count, recent = highest(context.memory.recent, context.now_s, count, DIP_S)
    if highest_count > count:
        count, why = highest_count, f"{counted(highest_count, 'replica')} were wanted a moment ago"
    return Scale(count, why, replace(context.memory, count=count, recent=recent), linger_s=0.0)


def _in_flight(context: ScaleContext) -> tuple[int, str]:
    # 1.
    return context.in_use, f"{counted(context.in_flight, 'request')} in flight"


def _traffic(context: ScaleContext) -> tuple[int, str]:
    load, reserve = context.load, context.load.reserve
    in_use = load.peak_offered / context.slots
    if in_use < USE_MIN:
        return _idle(context)
    # 2.
    count = max(reserve.busy, math.ceil(reserve.growth * in_use - 1e-9))
    if count > reserve.busy:
        return count, f"{in_use:.1f} replicas in use may become {reserve.growth:g} times as many while one starts"
    return count, f"surges that came while one started asked for {counted(count, 'replica')}"


def _backlog(context: ScaleContext) -> tuple[int, str]:
    # 3.
    held = context.demand.held
    if not held:
        return 0, ""
    service_s, start_s = context.load.service_s, context.start_s
    # Those in flight are half done, on average.
    work_s = (held + context.in_flight / 2) * service_s
    waits_s = context.ready_in_s if len(context.ready_in_s) == context.starting else (start_s / 2,) * context.starting
    served_s = context.ready * start_s + sum(max(0.0, start_s - one) for one in waits_s)
    left_s = work_s - context.slots * served_s
    if left_s <= 0:
        why = f"{counted(held, 'held request')} will be served before another replica could be ready"
        return (0 if context.coming else 1), why
    patience_s = context.aim.wait_s
    deadline_s = context.demand.earliest_deadline_s
    if deadline_s is not None and deadline_s - context.now_s > start_s:
        patience_s = min(patience_s, deadline_s - context.now_s - start_s)
    count = math.ceil(left_s / (context.slots * max(patience_s, SHORTEST_PATIENCE_S)) - 1e-9)
    # With a slot for each nobody waits any more, however long the work takes.
    most = -(-(held + context.in_flight) // context.slots)
    return min(count, most), f"{left_s:.0f} s of work are left when another one would be ready"


def _idle(context: ScaleContext) -> tuple[int, str]:
    # 4.
    load, reserve = context.load, context.load.reserve
    if not reserve.idle:
        return 0, "no replica is worth keeping while nothing comes"
    chance = returns_per_s(load, context.now_s - load.last_s)
    # Of one replica, on average. One that is there costs its keep; one that is not, at least what a GPU costs: were it
    # started because GPUs stand idle, it would go and come again with every moment at which one is wanted.
    saves = chance * reserve.saved * context.aim.late_price_s / reserve.idle
    balance = f"keeping a replica for a second saves {saves:.3g} GPU-seconds of starting again"
    if saves >= max(1.0, context.keep_price):
        return reserve.idle, balance
    return (min(reserve.idle, context.coming) if saves >= context.keep_price else 0), balance


def returns_per_s(load: Load, silence_s: float) -> float:
    """The chance per second that requests come after a silence of ``silence_s``, from how long silences were so far.

    The hazard over the present doubling of the silence, with half a silence of each length added for what was not seen
    (Jeffreys): one that has lasted longer than any before ends at a rate that falls with its length.
    """
    if not load.gaps:
        return 0.0
    place = gap_bin(silence_s)
    longer = sum(load.gaps[place:]) + 0.5
    ends = load.gaps[place] + 0.5 * (place < len(load.gaps) - 1)
    span_s = GAP_MIN_S * 2.0**place
    return ends / (longer + 0.5) / span_s

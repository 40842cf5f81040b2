"""Bounds on what any residency policy may do: no swap storms, and nobody waits for ever.

*Minimum residency.* A ready replica stays at least as long as its start took, and until it has served once, before it
is evicted. So at most half of the time of any memory is spent on starts, whatever the order of the requests.

*Patience.* A need that has waited ``patience_s`` (or, where that is longer, ``STARTS`` of its own starts) is *overdue*.
1. Overdue needs come first, the longest waiting first, whatever their priority. So a need is overtaken only by those
   that came before it, once it is overdue.
2. Minimum residency does not hold against them.
3. A replica that callers use all the time, and that no idle one spares, has *turns*: after ``TURN`` of the patience, or
   ``STARTS`` of its own starts, it gives way to them. It takes no more requests then and finishes those it has.
4. The GPU that comes closest for the first of them is besieged: nothing is started, woken or brought back there for
   anybody else, and whoever may go leaves, even if that alone does not make enough room.
A need that is first among the overdue then waits until each replica in its way has had its turn and has finished what
it has, and no longer. With more of them: for its place in the line, of as many places as fit into the memory at once.

*Rest.* From one eviction on a GPU to the next pass ``60 / swaps_per_minute`` seconds, whoever waits: so the rate of
swaps is bounded also where starts are quick and everybody is overdue.
"""

from __future__ import annotations

from packers.types import Model

DEFAULT_PATIENCE_S = 30.0
STARTS = 2
TURN = 1 / 6  # of the patience
DEFAULT_SWAPS_PER_MINUTE = 120.0
LEAST_SWAPS_PER_MINUTE = 0.1


def settled(ready_since_s: float, last_used_s: float, start_s: float, now_s: float) -> bool:
    """Minimum residency is over: it may be evicted. ``last_used_s``: 0 or earlier than ``ready_since_s`` if never."""
    served = last_used_s > ready_since_s
    stayed_s = now_s - ready_since_s
    return stayed_s >= start_s and (served or stayed_s >= 2 * start_s)


def had_turn(ready_since_s: float, start_s: float, patience_s: float, now_s: float) -> bool:
    """A replica that callers use has served for long enough to give its place to a need that is overdue."""
    return now_s - ready_since_s >= turn_s(start_s, patience_s)


def turn_s(start_s: float, patience_s: float) -> float:
    return max(STARTS * start_s, TURN * patience_s)


def overdue_after_s(model: Model, patience_s: float) -> float:
    """How long a need of it waits before it is overdue, in seconds."""
    return max(patience_s, STARTS * model.startup.disk_s)


def overdue(model: Model, wait_s: float, patience_s: float) -> bool:
    return wait_s >= overdue_after_s(model, patience_s)


def rank(model: Model, wait_s: float, patience_s: float) -> tuple[bool, float, int, float, str]:
    """Sort key of needs for a first replica: who is next."""
    late = overdue(model, wait_s, patience_s)
    return not late, -wait_s if late else 0.0, -model.priority, -wait_s, model.id

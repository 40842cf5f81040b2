"""Lower bounds on GPUs and on nodes where replicas have two dimensions, span GPUs, or keep apart.

Every bound drops some of the constraints and keeps the rest exactly, so each is valid on its own:
memory alone, compute alone, weighted sums of both (a GPU that holds neither too much of one nor of the other does not
hold too much of any weighted mean), slices of tensor-parallel groups as if they were free to go anywhere, groups that
need whole GPUs, and models that keep apart.
"""

from __future__ import annotations

import numpy as np

from packers.static.groups.kinds import Capacity, Ints, Kinds
from packers.static.lines.bounds import simple_bound
from packers.static.lines.line import Line

MIXED_STEPS = 1 << 20
MIXTURES = (0.3, 0.5, 0.7)
MIXED_PARAMETERS = 100


def line_of(kinds: Kinds, axis: int, capacity: int) -> Line:
    """Every slice of every replica by one dimension; what takes nothing of it is left out."""
    return Line.counted(kinds.needs[:, axis], kinds.counts * kinds.spans, capacity)


def gpus_bound(kinds: Kinds, capacity: Capacity) -> int:
    """GPUs that are needed whatever nodes they are on."""
    amounts = kinds.counts * kinds.spans
    best = 1 if amounts.any() else 0
    for axis in (0, 1):
        if capacity[axis] and kinds.needs[:, axis].any():
            best = max(best, simple_bound(line_of(kinds, axis, capacity[axis])))
    if all(capacity) and kinds.needs.any(axis=0).all():
        for share in MIXTURES:
            best = max(best, simple_bound(_mixed(kinds, capacity, share, amounts), MIXED_PARAMETERS))
    return best


def nodes_bound(kinds: Kinds, capacity: Capacity, per_node: int, gpus_at_least: int) -> int:
    """``gpus_at_least`` GPUs fill this many nodes; apart and whole-GPU groups may ask for more."""
    best = max(-(-gpus_at_least // per_node), apart_bound(kinds))
    for axis in (0, 1):
        # Groups of which no two share a GPU: their spans alone fill nodes.
        alone = 2 * kinds.needs[:, axis] > capacity[axis]
        best = max(best, simple_bound(Line.counted(np.where(alone, kinds.spans, 0), kinds.counts, per_node)))
    return best


def apart_bound(kinds: Kinds) -> int:
    """Replicas of which no two share a node, greedily collected: the largest first."""
    best = 0
    selfish = [kind for kind, others in enumerate(kinds.apart) if kind in others]
    for first in sorted(selfish, key=lambda kind: (-int(kinds.counts[kind]), kind))[:64]:
        clique, total = [first], int(kinds.counts[first])
        candidates = sorted(kinds.apart[first] - {first}, key=lambda kind: (-int(kinds.counts[kind]), kind))
        for kind in candidates:
            if all(kind in kinds.apart[other] for other in clique):
                clique.append(kind)
                total += int(kinds.counts[kind]) if kind in kinds.apart[kind] else min(1, int(kinds.counts[kind]))
        best = max(best, total)
    return best


def _mixed(kinds: Kinds, capacity: Capacity, share: float, amounts: Ints) -> Line:
    """Weighted means of both dimensions, rounded down: what fits in both fits in the mean."""
    part = round(share * MIXED_STEPS)
    parts = np.array([part, MIXED_STEPS - part])
    sizes = sum(kinds.needs[:, axis] * int(parts[axis]) // capacity[axis] for axis in (0, 1))
    return Line.counted(np.asarray(sizes, np.int64), amounts, MIXED_STEPS)

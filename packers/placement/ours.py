"""Ours: where the least of what the cluster could still serve is lost.

Like fragmentation gradient descent (Weng et al., USENIX ATC 2023) it values a node's free GPU room by which of the asks
that come could use it. It differs in four ways:

1. Room that the node's CPUs and host RAM cannot feed is worth less. The published rule looks whether one task fits:
   eight free GPUs next to the CPUs for one task count in full, and GPUs get stranded behind empty CPUs. Here half of
   the room's worth is what one more ask could reach, the other half what the CPUs and RAM could feed if asks of that
   kind took them all: near-sighted and far-sighted, in equal parts, because which asks will come is not known.
2. Every kind of ask counts. None is cut off for being rare: the rare ones are those that need whole nodes.
3. An ask counts with its number over the root of its size: between counting asks, where whole GPUs drown the small
   ones that fill holes, and counting as if all sizes asked for as many GPUs in total.
4. Scores are exact, not cut to whole percents, so that only candidates that are alike tie, and it does not matter
   which of them is taken.

The mix of asks is learned as they come (packers.placement.mix), or known from the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.placement.cluster import Cluster, Floats
from packers.placement.mix import Share
from packers.placement.rule import Candidates, states_after
from packers.placement.targets import NodeStates, Targets

SIZE_EXPONENT = -0.5


@dataclass(frozen=True)
class Ours:
    """Score: usable room lost, what the ask itself takes included, in thousandths of a GPU."""

    name: str = "ours"

    def targets(self, cluster: Cluster, shares: tuple[Share, ...]) -> Targets | None:
        return Targets(cluster, shares, SIZE_EXPONENT)

    def worth(self, states: NodeStates, targets: Targets) -> Floats:
        usable = targets.usable(states)
        worth = (usable.room + np.minimum(usable.room, usable.fed)) / 2
        return np.asarray((worth * targets.weights[states.kind]).sum(axis=1))

    def score(self, candidates: Candidates, targets: Targets | None, before: Floats | None) -> Floats:
        if targets is None or before is None:
            raise TypeError(f"{self.name} needs to know the mix of asks")
        return np.asarray(before - self.worth(states_after(candidates), targets))

"""Fragmentation gradient descent: where expected fragmentation grows least.

Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC
2023. The fragments of a node, for a task, are the free parts of its GPUs that the task cannot use: all of them when the
node's CPUs or GPUs do not do for it, else those of GPUs it does not fit on. A node's expected fragmentation is the mean
over typical tasks, weighted by how many there are of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.placement.best_fit import node_left
from packers.placement.cluster import Cluster, Floats
from packers.placement.mix import Share
from packers.placement.rule import Candidates, states_after
from packers.placement.targets import NodeStates, Targets

POPULAR = 0.95
BEST_FIT_WEIGHT = 40.0  # thousandths of a GPU: a whole node left counts as much as that much fragmentation


@dataclass(frozen=True)
class Fgd:
    """With the full list of tasks and a best-fit term.

    The published rule leaves the rarest tasks out and then nibbles at the whole nodes that those need; which nodes it
    spares depends on how it breaks ties. Without the cut, and preferring fuller nodes, it no longer does.
    Score: fragmentation gained, in thousandths of a GPU, plus the best-fit term.
    """

    name: str = "fgd"

    def targets(self, cluster: Cluster, shares: tuple[Share, ...]) -> Targets | None:
        return Targets(cluster, shares)

    def worth(self, states: NodeStates, targets: Targets) -> Floats:
        """The GPU room that typical tasks could use: what is free, less the expected fragmentation."""
        room = targets.usable(states).room
        return np.asarray((room * targets.weights[states.kind]).sum(axis=1))

    def score(self, candidates: Candidates, targets: Targets | None, before: Floats | None) -> Floats:
        states = states_after(candidates)
        return gained(self, candidates, states, targets, before) + BEST_FIT_WEIGHT * node_left(states)


@dataclass(frozen=True)
class FgdAsPublished:
    """As its authors ran it: only the tasks that make up 95%, scores cut to whole percents, ties to the first node."""

    name: str = "fgd-as-published"

    def targets(self, cluster: Cluster, shares: tuple[Share, ...]) -> Targets | None:
        return Targets(cluster, popular(shares))

    def worth(self, states: NodeStates, targets: Targets) -> Floats:
        room = targets.usable(states).room
        return np.asarray((room * targets.weights[states.kind]).sum(axis=1))

    def score(self, candidates: Candidates, targets: Targets | None, before: Floats | None) -> Floats:
        states = states_after(candidates)
        grown = gained(self, candidates, states, targets, before)
        return -np.floor(100 / (1 + np.exp(grown / 1000)))


def gained(
    rule: Fgd | FgdAsPublished,
    candidates: Candidates,
    states: NodeStates,
    targets: Targets | None,
    before: Floats | None,
) -> Floats:
    """Expected fragmentation after less before, thousandths of a GPU."""
    if targets is None or before is None:
        raise TypeError(f"{rule.name} needs to know the mix of tasks")
    ask = candidates.ask
    used = ask.gpus * max(ask.compute_milli, ask.gpu_bytes * candidates.memory_scale)
    return np.asarray(before - rule.worth(states, targets) - used)


def popular(shares: tuple[Share, ...], part: float = POPULAR) -> list[Share]:
    """The most frequent asks that together make up ``part`` of all, in the authors' order among equals."""
    ordered = sorted(
        shares,
        key=lambda one: (
            one.share,
            one.ask.cpu_milli,
            one.ask.compute_milli,
            one.ask.gpus,
            "|".join(one.ask.gpu_types),
        ),
        reverse=True,
    )
    kept: list[Share] = []
    covered = 0.0
    whole = sum(one.share for one in shares)
    for one in ordered:
        if covered >= part * whole:
            break
        kept.append(one)
        covered += one.share
    return kept

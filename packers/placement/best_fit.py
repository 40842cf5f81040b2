"""Best fit: least stays free where the ask goes, so that the largest holes stay whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.placement.cluster import UNCOUNTED, Floats
from packers.placement.rule import Candidates, NoMix, states_after
from packers.placement.targets import NodeStates, Targets

NODE_GPUS = 8.0  # what a node's free GPUs and CPUs are measured against, as the published rule does
NODE_CPU_MILLI = 128_000.0
TIE_BREAK = 1e-3


def node_left(states: NodeStates) -> Floats:
    """Half the GPUs, half the CPUs that stay free on the node, each as a share of a large node's."""
    gpus = np.maximum(states.size, 0.0).sum(axis=1) / (1000 * NODE_GPUS)
    cpu = np.where(states.cpu_milli < UNCOUNTED // 2, states.cpu_milli, 0) / NODE_CPU_MILLI
    return np.asarray((gpus + cpu) / 2)


@dataclass(frozen=True)
class BestFit(NoMix):
    """Score: the share of the GPU that stays free (of a group: the sum); among equal ones the fuller node wins."""

    name: str = "best-fit"

    def score(self, candidates: Candidates, targets: Targets | None, before: Floats | None) -> Floats:
        states = states_after(candidates)
        each = np.arange(len(candidates.rows))[:, None]
        left = states.size[each, candidates.columns].sum(axis=1)
        return np.asarray(left + TIE_BREAK * node_left(states))


@dataclass(frozen=True)
class BestFitAsPublished(NoMix):
    """The BestFit of the FGD paper's experiments: what stays free on the node, in whole percents.

    Weng et al., "Beware of Fragmentation", USENIX ATC 2023, section 6.1; GPUs within a node: tightest first.
    """

    name: str = "best-fit-as-published"

    def score(self, candidates: Candidates, targets: Targets | None, before: Floats | None) -> Floats:
        states = states_after(candidates)
        each = np.arange(len(candidates.rows))[:, None]
        left = states.size[each, candidates.columns].sum(axis=1)
        return np.asarray(TIE_BREAK * left / 1000 - np.floor((1 - node_left(states)) * 100))

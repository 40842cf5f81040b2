"""Dot product: where what is free and what is asked for point in least the same direction with least to spare.

Tetris (Grandl et al., SIGCOMM 2014) multiplies the vectors of free and of wanted resources; the FGD paper's experiments
(Weng et al., USENIX ATC 2023, section 6.1) prefer the smallest product, which packs nodes that are nearly full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.placement.best_fit import NODE_CPU_MILLI, NODE_GPUS
from packers.placement.cluster import UNCOUNTED, Floats
from packers.placement.rule import Candidates, NoMix, states_of
from packers.placement.targets import Targets

TIE_BREAK = 1e-6


@dataclass(frozen=True)
class DotProduct(NoMix):
    """Score: the product of the node's free and the wanted shares of GPU, memory and CPU; then the tighter GPU."""

    name: str = "dot-product"

    def score(self, candidates: Candidates, targets: Targets | None, before: Floats | None) -> Floats:
        ask, scale = candidates.ask, candidates.memory_scale
        states = states_of(candidates.cluster, candidates.rows, scale)
        whole = 1000 * NODE_GPUS
        compute = np.maximum(states.milli, 0).sum(axis=1) / whole * (ask.gpus * ask.compute_milli / whole)
        memory = np.maximum(states.memory, 0).sum(axis=1) / whole * (ask.gpus * ask.gpu_bytes * scale / whole)
        counted = np.where(states.cpu_milli < UNCOUNTED // 2, states.cpu_milli, 0)
        cpu = counted / NODE_CPU_MILLI * (ask.cpu_milli / NODE_CPU_MILLI)
        each = np.arange(len(candidates.rows))[:, None]
        tightness = states.size[each, candidates.columns].sum(axis=1) / whole
        return np.asarray(compute + memory + cpu + TIE_BREAK * tightness)

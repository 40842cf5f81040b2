"""First-fit decreasing, the baseline of static packing, written plainly."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from packers.static.problem import Item

Ints = NDArray[np.int64]


def first_fit_decreasing(needs: Ints, capacity: Ints) -> int:
    """Bins used. ``needs[i]`` of item i by dimension, ordered by the sum of what they take of each capacity."""
    order = np.argsort(-(needs / capacity).sum(axis=1), kind="stable")
    free = np.repeat(capacity[None, :], len(needs), axis=0)
    used = 0
    for need in needs[order]:
        fits = (free[: used + 1] >= need).all(axis=1)
        at = int(fits.argmax())
        free[at] -= need
        used = max(used, at + 1)
    return used


def nodes_first_fit_decreasing(items: Iterable[Item], gpu_bytes: int, per_node: int) -> int:
    """Nodes used: groups of many GPUs first, then by memory; each on the first node with room that it may be on, there
    on the GPUs with the least room that it fits on."""
    ordered = sorted(items, key=lambda item: (-item.gpus, -item.memory_bytes, item.model))
    replicas = [item for item in ordered for _ in range(item.replicas)]
    free = np.full((len(replicas), per_node), gpu_bytes, np.int64)
    models: list[set[str]] = []
    for item in replicas:
        roomy = (free >= item.memory_bytes).sum(axis=1) >= item.gpus
        node = next(
            at for at in np.flatnonzero(roomy).tolist() if at >= len(models) or not item.apart_from & models[at]
        )
        if node >= len(models):
            node = len(models)
            models.append(set())
        models[node].add(item.model)
        fitting = np.flatnonzero(free[node] >= item.memory_bytes)
        chosen = fitting[np.argsort(free[node][fitting], kind="stable")][: item.gpus]
        free[node, chosen] -= item.memory_bytes
    return len(models)

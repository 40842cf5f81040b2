"""Made-up fleets for static packing: a zoo of models on one size of GPU, and instances whose optimum is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from packers.static.problem import GpuSize, Item
from packers.types import ModelId

GIB = 2**30
UNIT = 64 * 2**20  # what memory is rounded up to
GPU_GIB = (24, 40, 48, 80, 141)
BILLIONS = np.array([0.5, 1, 1.5, 1.8, 3, 4, 7, 8, 9, 13, 14, 24, 27, 32, 34, 70])
BYTES_PER_WEIGHT = np.array([2.0, 1.0, 0.5])  # fp16, fp8, int4
ANY_KV_GIB = 2.0  # median of a log-normal
FEW_KV_GIB = np.array([1.0, 2.0, 4.0, 8.0])
Ints = NDArray[np.int64]


def units(gib: int) -> int:
    return gib * GIB // UNIT


def zoo(replicas: int, gib: int, seed: int, few_sizes: bool) -> Ints:
    """Memory of each replica in units: weights, a KV cache of any size or one of a few, half a GiB besides."""
    rng = np.random.default_rng((seed, gib, replicas, few_sizes))
    sizes: list[int] = []
    while len(sizes) < replicas:
        weights = float(rng.choice(BILLIONS) * rng.choice(BYTES_PER_WEIGHT)) * 1e9
        kv_cache = float(rng.choice(FEW_KV_GIB) if few_sizes else rng.lognormal(np.log(ANY_KV_GIB), 0.8)) * GIB
        size = int(-(-(weights + kv_cache + 0.5 * GIB) // UNIT))
        if size <= units(gib):
            sizes.append(size)
    return np.array(sizes, np.int64)


def triplets(bins: int, capacity: int, seed: int) -> Ints:
    """Three items of a quarter to half of the capacity fill each bin exactly (Falkenauer 1996)."""
    rng = np.random.default_rng((seed, bins, capacity))
    sizes: list[int] = []
    while len(sizes) < 3 * bins:
        one, other = (int(size) for size in rng.integers(capacity // 4 + 1, -(-capacity // 2), 2))
        third = capacity - one - other
        if capacity < 4 * third < 2 * capacity:
            sizes += [one, other, third]
    return np.array(sizes, np.int64)


def compute(replicas: int, seed: int, how: str) -> Ints:
    """Thousandths of a GPU's compute: mostly a little (light), up to half in steps of 5%, or anything up to 60%."""
    rng = np.random.default_rng((seed, replicas, len(how)))
    if how == "light":
        return np.clip(rng.exponential(120, replicas), 10, 1000).astype(np.int64)
    if how == "steps":
        return rng.integers(1, 11, replicas) * 50
    return rng.integers(1, 600, replicas)


def groups(replicas: int, gib: int, seed: int) -> tuple[Item, ...]:
    """1 to 6 replicas of each model, spread over as many GPUs as it takes; of most models no two on one node."""
    rng = np.random.default_rng((seed, gib, replicas))
    items: list[Item] = []
    while replicas > 0:
        weights = float(rng.choice(BILLIONS) * rng.choice(BYTES_PER_WEIGHT)) * 1e9
        need = weights + float(rng.lognormal(np.log(ANY_KV_GIB), 0.8)) * GIB
        span = int(rng.choice([1, 1, 1, 1, 2]))
        while need / span > 0.9 * gib * GIB:
            span *= 2
        if span > 8:
            continue
        model = ModelId(f"m{len(items):04}")
        count = min(replicas, int(rng.integers(1, 7)))
        size = int(-(-(need / span + 0.3 * GIB) // UNIT)) * UNIT
        apart = frozenset({model}) if rng.random() < 0.7 else frozenset()
        items.append(Item(model, min(size, gib * GIB), count, gpus=span, apart_from=apart))
        replicas -= count
    return tuple(items)


def gpu(gib: int) -> GpuSize:
    return GpuSize(gib * GIB)

"""The models that traces are played with: sizes from 0.5 to 70 billion parameters in fp16, fp8 and int4.

The traces say which model a request was for, not how large it was. Assumed here: weights of 2, 1 or 0.55 bytes a
parameter; KV cache of 30% of the weights, at most 11 GB; 3 GB for the rest; asleep, the weights stay in host RAM.

GenAI: a model's size follows from its id and a seed, always the same for one id. ``GENAI_SEEDS`` are seeds with which
LRU delays about as many requests as published for this trace (4.3% on 4 GPUs, 11.4% on 2).
ServeGen: its clients are of class m-small, m-mid or m-large, and a client's model is of a size from its class (of any
size where the class is another). Of ``DRAWS`` seeded draws the one that comes closest to filling 25 GPUs is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from packers.sim import StartUp
from packers.types import Footprint, Model, ModelId

GB = 10**9
GPU_BYTES = 80 * GB
BYTES_PER_PARAMETER = ((2.0, 0.4), (1.0, 0.3), (0.55, 0.3))
REST_BYTES = 3 * GB
KV_SHARE, MOST_KV_BYTES = 0.3, 11 * GB

# Billions of parameters, and how often.
CLASSES: dict[str, tuple[tuple[float, float], ...]] = {
    "m-small": ((0.5, 0.2), (1.5, 0.3), (3, 0.3), (4, 0.2)),
    "m-mid": ((4, 0.15), (7, 0.35), (8, 0.3), (9, 0.1), (14, 0.1)),
    "m-large": ((14, 0.35), (24, 0.2), (27, 0.1), (32, 0.25), (70, 0.1)),
}
ANY = ((0.5, 0.08), (1.5, 0.15), (4, 0.15), (7, 0.2), (8, 0.18), (14, 0.11), (24, 0.04), (32, 0.06), (70, 0.03))

GENAI_SEEDS = (0,)
DRAWS, FILLED_GPUS, FULL = 20, 25, 0.99
START_UP = StartUp()


def model(name: str, weights_bytes: int) -> Model:
    """One replica at most, any GPU, kept until somebody else needs the room."""
    kv_bytes = _gpu_bytes(weights_bytes) - weights_bytes - REST_BYTES
    footprint = Footprint(weights_bytes, kv_bytes, REST_BYTES, host_bytes=weights_bytes)
    one = Model(ModelId(name), footprint, ttl_s=float("inf"), wakes_anywhere=True, target_in_flight=1_000_000)
    return replace(one, startup=START_UP.times(one))


def genai_models(ids: Sequence[str], seed: int) -> list[Model]:
    return [model(name, _draw(ANY, np.random.default_rng([seed, zlib.crc32(name.encode())]))) for name in ids]


def servegen_models(clients: Sequence[str], seed: int) -> list[Model]:
    """``clients``: "<class>/<client>"."""
    draws = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, draw, 7])
        weights = [_draw(CLASSES.get(name.split("/")[0], ANY), rng) for name in clients]
        off_bytes = abs(sum(_gpu_bytes(one) for one in weights) - FULL * FILLED_GPUS * GPU_BYTES)
        draws.append((off_bytes, draw, weights))
    return [model(name, weights_bytes) for name, weights_bytes in zip(clients, min(draws)[2], strict=True)]


def gpus_for_all(models: Sequence[Model]) -> int:
    """That hold all models at once: first-fit decreasing."""
    free: list[int] = []
    for needs_bytes in sorted((one.footprint.gpu_bytes for one in models), reverse=True):
        place = next((place for place, bytes_ in enumerate(free) if bytes_ >= needs_bytes), None)
        if place is None:
            free.append(GPU_BYTES - needs_bytes)
        else:
            free[place] -= needs_bytes
    return len(free)


def _draw(sizes: Sequence[tuple[float, float]], rng: np.random.Generator) -> int:
    while True:
        billions = rng.choice([size for size, _ in sizes], p=[share for _, share in sizes])
        each = rng.choice([size for size, _ in BYTES_PER_PARAMETER], p=[share for _, share in BYTES_PER_PARAMETER])
        weights_bytes = int(billions * each * GB)
        if _gpu_bytes(weights_bytes) <= GPU_BYTES:
            return weights_bytes


def _gpu_bytes(weights_bytes: int) -> int:
    return weights_bytes + min(int(KV_SHARE * weights_bytes), MOST_KV_BYTES) + REST_BYTES

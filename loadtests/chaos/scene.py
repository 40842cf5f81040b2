"""The installation that is broken: which models it serves, and why an eviction is bound to happen in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

GPUS, GPU_MIB = 2, 640
WORKERS = 2  # of the gateway: one can die

# Two replicas that always run; callers of it are those that the data plane must not fail.
STEADY, STEADY_REPLICAS = "steady", 2
# Runs only after somebody asked: starts are broken on it.
COLD = "cold"
# Beside the replicas of STEADY there is room for two of these at most, and for one when those share a GPU: asking for
# one that does not run makes room for it.
BIGS = ("big-a", "big-b", "big-c")

WEIGHTS_MIB, OVERHEAD_MIB = 16, 112
STEADY_KV_MIB, COLD_KV_MIB, BIG_KV_MIB = 96, 64, 272
SOURCE = "tiny-llama"  # of the demo: all of them are it


def write_config(file: Path, folder: Path) -> None:
    """A roundhouse.yaml with the scene's models. ``folder``: the weights of SOURCE. JSON is YAML."""
    cards = [_card(STEADY, folder, STEADY_KV_MIB, min_replicas=STEADY_REPLICAS, max_replicas=STEADY_REPLICAS)]
    cards.append(_card(COLD, folder, COLD_KV_MIB))
    cards += [_card(name, folder, BIG_KV_MIB) for name in BIGS]
    document = {
        "gpus": {"simulated": f"{GPUS}x{GPU_MIB}MiB"},
        "gateway": {"workers": WORKERS},
        "models": cards,
    }
    file.write_text(json.dumps(document, indent=1) + "\n")


def most_replicas(model: str) -> int:
    """``max_replicas`` of a model of the scene."""
    return STEADY_REPLICAS if model == STEADY else 1


def models() -> tuple[str, ...]:
    return (STEADY, COLD, *BIGS)


def model_of(replica: str, names: Iterable[str] = models()) -> str:
    """The model of a replica by its id, which begins with it; "" for another model's."""
    stem = replica.rpartition("-")[0]
    return stem if stem in names else ""


def _card(name: str, folder: Path, kv_mib: int, **more: Any) -> dict[str, Any]:
    return {
        "model_id": name,
        "model_source": str(folder),
        "engine_args": {"max_model_len": 1024},
        "declared": {"weights": f"{WEIGHTS_MIB}MiB", "kv_cache": f"{kv_mib}MiB", "overhead": f"{OVERHEAD_MIB}MiB"},
        "ttl": "1h",
        **more,
    }

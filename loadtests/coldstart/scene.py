"""The benchmark's own installation: models made from seeds, and the configuration that serves them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.wire import CallFailed

MAKING_TIMEOUT_S = 300.0
GPU_MIB, GPUS = 4096, 8
CHAT_ARGS = {"max_model_len": 1024}
KV_MIB, TINY_KV_MIB, OVERHEAD_MIB = 160, 16, 64
SWARM = 100
CROWD = "tiny-crowd"  # the model of many replicas
CROWD_REPLICAS = 8


@dataclass(frozen=True, slots=True)
class Sized:
    """A model to measure: its name, the size that goals speak of, and what it may take to its first token."""

    name: str
    size: str
    weights_mib: int
    first_token_goal_s: float


SIZES = (
    Sized("tiny-llama", "11 MB", 16, 0.35),
    Sized("llama-90mb", "86 MB", 96, 0.35),
    Sized("tiny-qwen3", "247 MB", 256, 0.35),
    Sized("llama-1gb", "1.0 GB", 1024, 0.5),
)


def make_models(root: Path, names: Iterable[str]) -> dict[str, Path]:
    """Their folders, made where they are not there yet. Raises CallFailed."""
    wanted = tuple(names)
    command = [sys.executable, "-m", "models.demo", str(root)]
    for name in wanted:
        command += ["--only", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKING_TIMEOUT_S, check=False)
    if done.returncode:
        raise CallFailed(f"the benchmark's models could not be made: {done.stderr.strip()}")
    return {name: root / name for name in wanted}


def write_config(file: Path, folders: Mapping[str, Path], swarm: int = SWARM) -> None:
    """A roundhouse.yaml with every model of SIZES, the crowd, and ``swarm`` copies of the smallest. JSON is YAML."""
    smallest = folders[SIZES[0].name]
    cards = [_card(sized.name, folders[sized.name], sized.weights_mib, KV_MIB) for sized in SIZES]
    crowd = _card(CROWD, smallest, SIZES[0].weights_mib, TINY_KV_MIB)
    cards.append({**crowd, "max_replicas": CROWD_REPLICAS, "target_in_flight": 1})
    cards += [_card(name, smallest, SIZES[0].weights_mib, TINY_KV_MIB) for name in swarm_names(swarm)]
    file.write_text(json.dumps({"gpus": {"simulated": f"{GPUS}x{GPU_MIB}MiB"}, "models": cards}, indent=1) + "\n")


def swarm_names(count: int) -> list[str]:
    return [f"swarm-{number:03d}" for number in range(count)]


def _card(name: str, folder: Path, weights_mib: int, kv_mib: int) -> dict[str, Any]:
    declared = {"weights": f"{weights_mib}MiB", "kv_cache": f"{kv_mib}MiB", "overhead": f"{OVERHEAD_MIB}MiB"}
    return {
        "model_id": name,
        "model_source": str(folder),
        "engine_args": CHAT_ARGS,
        "declared": declared,
        "ttl": "1h",
    }

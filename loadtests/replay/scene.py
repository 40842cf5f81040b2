"""The service of the benchmark: small models of two sizes, more of them than their GPUs hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALL, LARGE = "tiny-llama", "llama-90mb"
LARGE_EVERY = 3  # of each three models one is large
MIB = 2**20
KV_MIB, OVERHEAD_MIB = 16, 112


@dataclass(frozen=True, slots=True)
class Kind:
    """``folder``: which of the demo's models it is."""

    folder: str
    weights_mib: int

    @property
    def gpu_mib(self) -> int:
        return self.weights_mib + KV_MIB + OVERHEAD_MIB


KINDS = (Kind(SMALL, 16), Kind(LARGE, 96))


@dataclass(frozen=True, slots=True)
class Scene:
    """``fill``: how much of what all models need together there is on the GPUs, and as much again for sleepers'
    weights in RAM."""

    models: int = 16
    gpus: int = 2
    fill: float = 0.35

    @property
    def names(self) -> list[str]:
        return [f"m{number:02d}" for number in range(self.models)]

    def kind(self, number: int) -> Kind:
        return KINDS[1] if number % LARGE_EVERY == LARGE_EVERY - 1 else KINDS[0]

    def weights_bytes(self) -> dict[str, int]:
        return {name: self.kind(number).weights_mib * MIB for number, name in enumerate(self.names)}

    def gpu_mib(self) -> int:
        """Of each GPU; at least as much as the largest model needs."""
        needed = sum(self.kind(number).gpu_mib for number in range(self.models))
        return max(KINDS[1].gpu_mib, round(self.fill * needed / self.gpus))

    def host_mib(self) -> int:
        """Of the node's RAM; at least the largest model has to be able to sleep."""
        weights_mib = sum(self.kind(number).weights_mib for number in range(self.models))
        return max(KINDS[1].weights_mib, round(self.fill * weights_mib))

    def write(self, file: Path, folders: Mapping[str, Path]) -> None:
        """A roundhouse.yaml. JSON is YAML."""
        cards = [self._card(number, name, folders) for number, name in enumerate(self.names)]
        gpus = {"simulated": f"{self.gpus}x{self.gpu_mib()}MiB"}
        document = {"gpus": gpus, "host_memory": f"{self.host_mib()}MiB", "models": cards}
        file.write_text(json.dumps(document, indent=1) + "\n")

    def _card(self, number: int, name: str, folders: Mapping[str, Path]) -> dict[str, Any]:
        kind = self.kind(number)
        return {
            "model_id": name,
            "model_source": str(folders[kind.folder]),
            "engine_args": {"max_model_len": 512},
            "repack": False,
            "declared": {
                "weights": f"{kind.weights_mib}MiB",
                "kv_cache": f"{KV_MIB}MiB",
                "overhead": f"{OVERHEAD_MIB}MiB",
                "host": f"{kind.weights_mib}MiB",
            },
            "ttl": "1h",
        }

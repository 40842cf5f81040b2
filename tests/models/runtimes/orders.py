"""Orders for engines in a test's own short folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.runtimes.protocol import Budget, Device, EngineOrder

MIB = 1 << 20


def order(
    folder: Path,
    replica_id: str = "r1",
    *,
    source: str | Path = "/models/none",
    runtime: str = "fake",
    model_id: str = "some-model",
    kv_bytes: int = 64 * MIB,
    lease_s: float = 60.0,
    device: Device | None = None,
    layout_dir: str | Path = "",
    cold: bool = False,
    repack: bool = True,
    adapters: Mapping[str, Path] | None = None,
    **engine_args: Any,
) -> EngineOrder:
    return EngineOrder(
        replica_id=replica_id,
        model_id=model_id,
        served_names=(model_id, f"{model_id}-alias"),
        runtime=runtime,
        source=str(source),
        engine_args=engine_args,
        device=device or Device(memory_bytes=1 << 30),
        budget=Budget(weights_bytes=16 * MIB, kv_cache_bytes=kv_bytes, overhead_bytes=0),
        http_path=str(folder / f"{replica_id}.http"),
        control_path=str(folder / f"{replica_id}.ctl"),
        log_path=str(folder / "logs" / f"{replica_id}.log"),
        lease_s=lease_s,
        layout_dir=str(layout_dir),
        cold=cold,
        repack=repack,
        adapters={name: str(folder) for name, folder in (adapters or {}).items()},
        tag="a tag",
    )

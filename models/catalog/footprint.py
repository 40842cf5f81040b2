"""What one replica of a model needs: as its card declares it, estimated where it does not."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.catalog.errors import WrongValue
from models.catalog.fields import Bytes
from models.catalog.units import format_bytes
from packers.types import Footprint

_MIB = 2**20
KV_CACHE_BYTES = {"vllm": 256 * _MIB, "torch": 0}


@dataclass(frozen=True, slots=True)
class DeviceDefaults:
    """Bytes that a runtime takes on a kind of device besides weights and KV cache, and what its sleep leaves."""

    overhead_bytes: int
    residue_bytes: int


SIMULATED = DeviceDefaults(overhead_bytes=64 * _MIB, residue_bytes=0)
# A CUDA context with its kernels, workspaces and graphs; sleeping vLLM processes are published to keep 1.0 to 1.75 GiB.
CUDA = DeviceDefaults(overhead_bytes=1536 * _MIB, residue_bytes=1536 * _MIB)


class Declared(BaseModel):
    """Memory as the operator states it, in bytes by kind; what is left out is estimated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Bytes | None = None
    kv_cache: Bytes | None = None
    overhead: Bytes | None = None
    residue: Bytes | None = None
    host: Bytes | None = None
    kv_min: Bytes | None = Field(
        default=None, description="The least KV cache it may be started with when memory is short; left out: kv_cache"
    )

    @model_validator(mode="after")
    def _check_kv_min(self) -> Declared:
        if self.kv_min is not None and (self.kv_cache is None or self.kv_min > self.kv_cache):
            wish = "which is not declared" if self.kv_cache is None else f"which is {format_bytes(self.kv_cache)}"
            said = f"{format_bytes(self.kv_min)} is above kv_cache, {wish}"
            raise WrongValue(said, "declare kv_cache, and kv_min below it", "kv_min")
        return self

    def footprint(self, weights_bytes: int, runtime: str, defaults: DeviceDefaults) -> Footprint:
        """``weights_bytes``: size of the weights on disk, the estimate of what they take on the GPU and in host RAM."""
        weights = _first(self.weights, weights_bytes)
        kv_cache = _first(self.kv_cache, KV_CACHE_BYTES[runtime])
        overhead = _first(self.overhead, defaults.overhead_bytes)
        # An estimated residue cannot exceed what the replica held while it served.
        residue = _first(self.residue, min(defaults.residue_bytes, weights + kv_cache + overhead))
        return Footprint(
            weights_bytes=weights,
            kv_cache_bytes=kv_cache,
            overhead_bytes=overhead,
            residue_bytes=residue,
            host_bytes=_first(self.host, weights),
            kv_min_bytes=self.kv_min,
        )


def _first(declared: int | None, estimated: int) -> int:
    return estimated if declared is None else declared

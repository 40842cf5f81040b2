"""Everything that a model of the torch runtime holds on its GPU: what it was loaded with, and what it made besides."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import torch

from models.cuda.calls import CudaCalls
from models.cuda.flat import FlatWeights
from models.cuda.pinned import PinnedPool
from models.cuda.seats import Owner, movable_tensors
from models.runtimes.protocol import EngineError
from models.runtimes.torch.device_weights import DeviceWeights


class GpuPlace:
    """Where one engine's modules are put. Everything belongs to the thread that computes with them."""

    def __init__(self, calls: CudaCalls, pool: PinnedPool) -> None:
        self._calls = calls
        self._pool = pool
        self._flats: list[FlatWeights] = []

    @property
    def host_bytes(self) -> int:
        return self._pool.reserved_bytes

    @property
    def kept(self) -> str:
        """How the weights lie on the host while they are asleep, the worst of them if they differ."""
        kinds = {flat.kept for flat in self._flats}
        return next((kind for kind in ("pageable", "pinned", "registered") if kind in kinds), "pinned")

    @property
    def timings_s(self) -> dict[str, float]:
        """Of the latest change, summed over the pieces that were moved."""
        summed: dict[str, float] = {}
        for flat in self._flats:
            for phase, spent_s in flat.timings_s.items():
                summed[phase] = summed.get(phase, 0.0) + spent_s
        return summed

    def put(self, owners: Iterable[Owner]) -> None:
        """Onto the device, from wherever they are, for good. Raises EngineError, torch.OutOfMemoryError."""
        owners = tuple(owners)
        if movable_tensors(owners):
            flat = FlatWeights(owners, self._calls, self._pool)
            self._flats.append(flat)
            flat.resume()

    def suspend(self, owners: Iterable[Owner]) -> None:
        """Everything off the device: what was put there, and of ``owners`` whatever else has come to be there.

        Raises EngineError when the host has no room; all of it is on the device then.
        """
        here = movable_tensors(owners, on=self._calls.device)
        made = [tensor for tensor in here if not self._has(tensor)]
        done: list[FlatWeights] = []
        try:
            for flat in self._flats:
                flat.suspend()
                done.append(flat)
            if made:
                self._flats.append(FlatWeights(made, self._calls, self._pool))
        except EngineError:
            for flat in done:
                flat.resume()
            raise

    def resume(self) -> None:
        """Raises torch.OutOfMemoryError, after which all of it is off the device as before."""
        done: list[FlatWeights] = []
        try:
            for flat in self._flats:
                flat.resume()
                done.append(flat)
        except torch.OutOfMemoryError:
            for flat in done:
                with contextlib.suppress(EngineError):  # nothing has been computed: there is nothing new to keep
                    flat.suspend()
            raise

    def close(self) -> None:
        """Device and host memory back, where the process goes on; nothing that was put here may be used any more."""
        for flat in self._flats:
            flat.close()
        self._flats.clear()
        self._pool.close()

    def _has(self, tensor: torch.Tensor) -> bool:
        return any(flat.holds(tensor) for flat in self._flats)


class PlacedWeights(DeviceWeights):
    """``DeviceWeights`` over a ``GpuPlace``: nothing crosses the bus to sleep, and one copy a file to wake."""

    def __init__(self, owners: Iterable[Owner], device: torch.device, place: GpuPlace) -> None:
        self._all = tuple(owners)
        super().__init__(self._all, device)
        self._place = place

    @property
    def has_copy(self) -> bool:
        return True

    def to_host(self) -> None:
        """Raises EngineError when the host has no room; nothing has moved then."""
        self._place.suspend(self._all)

    def to_device(self) -> None:
        """Raises torch.OutOfMemoryError; they are on the host still then."""
        self._place.resume()

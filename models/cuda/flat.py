"""A module's weights as one flat device buffer over one host copy: sleep frees the buffer, wake fills it again.

The host copy is there before the first sleep, so that sleeping moves no byte (see ``homes.py``), and lies in few long
runs, so that waking is one sequential copy for each file or block.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

import torch

from models.cuda.calls import CudaCalls
from models.cuda.copies import Run, Staging, merged, plan_runs
from models.cuda.fingerprint import fingerprints
from models.cuda.homes import Homes
from models.cuda.mapped import FileMapping, MappedFile, own_mappings
from models.cuda.pinned import Block, PinnedPool
from models.cuda.seats import Owner, bytes_of, extent_of, movable_tensors, seated
from models.runtimes.protocol import EngineError

log = logging.getLogger("roundhouse.engine")


class FlatWeights:
    """Takes the tensors of ``owners`` over from wherever they are; ``resume`` puts them on the device.

    Everything blocks and belongs to the one thread that computes with them.
    """

    def __init__(
        self,
        owners: Iterable[Owner],
        calls: CudaCalls,
        pool: PinnedPool,
        mappings: Callable[[], tuple[FileMapping, ...]] = own_mappings,
    ) -> None:
        """Asleep. Raises EngineError when the host has no room, or a tensor is of a kind that cannot be moved so."""
        self._calls = calls
        self._homes = Homes(calls, pool)
        self._buffer: torch.Tensor | None = None
        self._seen: list[int] | None = None  # fingerprints of the runs
        self._volatile: set[int] = set()  # pieces that the model itself writes
        self.timings_s: dict[str, float] = {}
        tensors = movable_tensors(owners)
        calls.settle()
        extents = merged(extent_of(tensor) for tensor in tensors)
        self._seats = seated(tensors, extents)
        self._pieces = list(self._homes.of(bytes_of(extents, tensors), mappings()))
        self._plan()
        self._bind([home.bytes for home in self._pieces])
        calls.trim()

    @property
    def awake(self) -> bool:
        return self._buffer is not None

    @property
    def size_bytes(self) -> int:
        """Of the device buffer while awake."""
        return self._size_bytes

    @property
    def kept(self) -> str:
        """How the weights lie on the host: "registered" (in their file), "pinned" (in the pool) or "pageable"."""
        if not all(home.source.pinned for home in self._pieces):
            return "pageable"
        return "registered" if all(isinstance(home.source, MappedFile) for home in self._pieces) else "pinned"

    def holds(self, tensor: torch.Tensor) -> bool:
        return any(seat.tensor is tensor for seat in self._seats)

    def resume(self) -> None:
        """Weights onto the device. Raises torch.OutOfMemoryError, after which it is asleep as before."""
        if self._buffer is not None:
            return
        began_s = time.monotonic()
        buffer = self._calls.allocate(self._size_bytes)
        self.timings_s["allocate"] = time.monotonic() - began_s
        began_s = time.monotonic()
        self._fill(buffer)
        self._bind(self._on(buffer))
        self._buffer = buffer
        self.timings_s["copy"] = time.monotonic() - began_s
        if self._seen is None:
            self._seen = fingerprints(self._guarded(buffer))

    def suspend(self) -> None:
        """Device memory back to the driver. Bytes cross the bus only where the model has written its own weights.

        Raises EngineError when there is no room for those, after which it is awake as before.
        """
        if self._buffer is None:
            return
        began_s = time.monotonic()
        self._calls.settle()
        self._save_changes(self._buffer)
        self._bind([home.bytes for home in self._pieces])
        self._buffer = None
        self._calls.trim()
        self.timings_s["release"] = time.monotonic() - began_s

    def close(self) -> None:
        """Give the host memory up too; the tensors must not be used any more."""
        self._buffer = None
        self._homes.give_up()
        self._calls.trim()

    def _plan(self) -> None:
        """Runs in the order of their sources, one after the other in the buffer."""
        self._runs: list[tuple[Run, MappedFile | Block]] = []
        self._offsets = [0] * len(self._pieces)
        self._size_bytes = 0
        by_source: dict[int, list[int]] = {}
        for number, home in enumerate(self._pieces):
            by_source.setdefault(id(home.source), []).append(number)
        for numbers in by_source.values():
            runs = plan_runs((self._pieces[number].extent for number in numbers), self._size_bytes)
            begins = [run.address for run in runs]
            for number in numbers:
                address = self._pieces[number].extent.address
                self._offsets[number] = runs[bisect_right(begins, address) - 1].offset_of(address)
            self._runs += [(run, self._pieces[numbers[0]].source) for run in runs]
            self._size_bytes = runs[-1].offset_bytes + runs[-1].size_bytes

    def _fill(self, buffer: torch.Tensor) -> None:
        stream = self._calls.stream()
        staging = self._staging() if self.kept == "pageable" else None
        try:
            for run, source in self._runs:
                target = buffer[run.offset_bytes : run.offset_bytes + run.size_bytes]
                begin = run.address - source.bytes.data_ptr()
                host = source.bytes[begin : begin + run.size_bytes]
                if source.pinned or staging is None:
                    stream.copy(target, host)
                else:
                    staging.copy(stream, target, host)
            stream.record().wait()
        finally:
            if staging is not None:
                staging.close()

    def _staging(self) -> Staging | None:
        try:
            return Staging(self._homes.pool)
        except EngineError as problem:
            log.warning("pageable weights are copied by the driver's own means: %s", problem)
            return None

    def _save_changes(self, buffer: torch.Tensor) -> None:
        device = self._on(buffer)
        for number in self._volatile:
            self._pieces[number].bytes.copy_(device[number])
        if self._seen is None or fingerprints(self._guarded(buffer)) == self._seen:
            return
        steady = [number for number in range(len(self._pieces)) if number not in self._volatile]
        kept = fingerprints([self._pieces[number].bytes for number in steady])
        here = fingerprints([device[number] for number in steady])
        changed = [number for number, old, new in zip(steady, kept, here, strict=True) if old != new]
        log.info("the model writes %d of its %d weights itself: they are kept with each sleep", len(changed), len(kept))
        for number, home in zip(changed, self._homes.pooled([device[number] for number in changed]), strict=True):
            self._pieces[number] = home
        self._volatile.update(changed)
        self._plan()
        self._seen = None

    def _guarded(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """What should never change: all runs but those of pieces that are copied back at every sleep."""
        written = {id(self._pieces[number].source) for number in self._volatile}
        return [
            buffer[run.offset_bytes : run.offset_bytes + run.size_bytes]
            for run, source in self._runs
            if id(source) not in written
        ]

    def _on(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        return [
            buffer[offset : offset + home.bytes.numel()]
            for offset, home in zip(self._offsets, self._pieces, strict=True)
        ]

    def _bind(self, pieces: Sequence[torch.Tensor]) -> None:
        for seat in self._seats:
            seat.bind(pieces)

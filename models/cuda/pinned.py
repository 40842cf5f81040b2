"""The pinned host pool of a process: reserved in one piece, shared out to what sleeps there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from models.cuda.calls import CannotRegister, CudaCalls
from models.cuda.host_memory import HostMemory
from models.cuda.regions import NoRoom, Region, Regions, aligned
from models.runtimes.protocol import EngineError

log = logging.getLogger("roundhouse.engine")


class PoolFull(EngineError):
    """``short_bytes`` more would have been needed."""

    def __init__(self, message: str, short_bytes: int) -> None:
        super().__init__(message, "memory")
        self.short_bytes = short_bytes

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, int]]:  # type: ignore[override]
        return type(self), (str(self), self.short_bytes)


class Memory(Protocol):
    """What a slab is made of: ``HostMemory``, or a test's."""

    @property
    def address(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def bytes(self) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a slab. ``pinned``: the bus reads it at full speed."""

    slab: _Slab
    region: Region
    bytes: torch.Tensor  # exactly as long as was asked for

    @property
    def pinned(self) -> bool:
        return self.slab.pinned


class _Slab:
    def __init__(self, memory: Memory, calls: CudaCalls) -> None:
        self.memory = memory
        self.regions = Regions(memory.size_bytes)
        self.pinned = False
        try:
            calls.register(memory.address, memory.size_bytes, read_only=False)
            self.pinned = True
        except CannotRegister as problem:
            # Slower, not wrong: copies go through a small staging buffer, or the driver's own.
            log.warning("%d MiB of host memory stay pageable: %s", memory.size_bytes >> 20, problem)


class PinnedPool:
    """Host memory for weights that sleep. ``reserve`` takes it from the machine, ``take`` hands parts of it out.

    ``limit_bytes``: the host bytes that the ledger has given to this process; 0 stands for no limit.
    """

    def __init__(self, calls: CudaCalls, limit_bytes: int = 0, memory: Callable[[int], Memory] = HostMemory) -> None:
        self._calls = calls
        self._limit_bytes = limit_bytes
        self._memory = memory
        self._slabs: list[_Slab] = []

    @property
    def reserved_bytes(self) -> int:
        """What it costs the machine, used or not."""
        return sum(slab.memory.size_bytes for slab in self._slabs)

    @property
    def used_bytes(self) -> int:
        return sum(slab.regions.used_bytes for slab in self._slabs)

    @property
    def pinned(self) -> bool:
        """Whether all of it is."""
        return all(slab.pinned for slab in self._slabs)

    def reserve(self, size_bytes: int) -> None:
        """See to it that one region of ``size_bytes`` is free. Raises PoolFull beyond the limit, EngineError."""
        wanted_bytes = aligned(size_bytes)
        if wanted_bytes <= max((slab.regions.largest_bytes for slab in self._slabs), default=0):
            return
        room_bytes = self._limit_bytes - self.reserved_bytes
        if self._limit_bytes and wanted_bytes > room_bytes:
            raise PoolFull(
                f"the pinned host pool may hold {_gib(self._limit_bytes)} and {_gib(self.reserved_bytes)} of them are"
                f" reserved: {_gib(size_bytes)} more do not fit",
                wanted_bytes - room_bytes,
            )
        self._slabs.append(_Slab(self._memory(wanted_bytes), self._calls))

    def take(self, size_bytes: int, what: str) -> Block:
        """``what`` needs the room, for the message. Raises PoolFull when no reserved region is free and long enough."""
        nearest: NoRoom | None = None
        for slab in self._slabs:
            try:
                region = slab.regions.take(size_bytes)
            except NoRoom as problem:
                nearest = problem if nearest is None or problem.largest_bytes > nearest.largest_bytes else nearest
            else:
                begin = region.offset_bytes
                return Block(slab, region, slab.memory.bytes[begin : begin + size_bytes])
        largest_bytes = nearest.largest_bytes if nearest else 0
        raise PoolFull(
            f"the pinned host pool has no room for {what}: {_gib(size_bytes)} are needed, {_gib(largest_bytes)} of"
            f" {_gib(self.reserved_bytes)} are free in one piece",
            size_bytes - largest_bytes,
        )

    def give_back(self, block: Block) -> None:
        """Its bytes may be overwritten from now on. Raises ValueError when it was given back before."""
        block.slab.regions.give_back(block.region)

    def close(self) -> None:
        """Everything back to the machine; blocks must not be used any more."""
        for slab in self._slabs:
            if slab.pinned:
                self._calls.unregister(slab.memory.address)
        self._slabs.clear()


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"

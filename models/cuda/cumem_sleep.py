"""vLLM's own allocations put to sleep by unmapping them; weights come back from a pinned copy that is made once.

vLLM's backend copies all weights to freshly pinned memory at every sleep (seconds) and back one allocation at a time,
waiting for each. Here the copy is made once, sleeping only unmaps, and waking maps one allocation while the copies of
those before it cross the bus.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.cuda.calls import CudaCalls
from models.cuda.fingerprint import fingerprints
from models.cuda.pinned import Block, PinnedPool
from models.cuda.regions import aligned

log = logging.getLogger("roundhouse.engine")

WEIGHTS = "weights"
STATE = ("runtime", "cudagraph")  # kept at every level, and written while the engine serves
DEFERRABLE = (WEIGHTS, "kv_cache")  # a wake that names tags may leave these, and these alone, asleep
DISCARD_WEIGHTS = 2  # the level of sleep that does not keep them


class Allocation(Protocol):
    """vLLM's ``AllocationData``. ``handle``: device, size in bytes, address, the driver's handle."""

    handle: tuple[int, int, int, Any]
    tag: str
    is_asleep: bool


@dataclass(frozen=True, slots=True)
class Mapper:
    """How physical memory is put under an allocation's address and taken away; both raise RuntimeError."""

    create_and_map: Callable[[Any], None]
    unmap_and_release: Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """The host's copy of one allocation. ``seen``: the fingerprint it had when it was copied."""

    block: Block
    seen: int


class AllocationSleep:
    """Suspends and resumes ``allocations``, by address, as vLLM keeps them (they come and go while it serves)."""

    def __init__(
        self, allocations: Mapping[int, Allocation], mapper: Mapper, calls: CudaCalls, pool: PinnedPool
    ) -> None:
        self._allocations = allocations
        self._mapper = mapper
        self._calls = calls
        self._pool = pool
        self._kept: dict[int, Kept] = {}
        self._lost: set[int] = set()  # asleep, and nothing to be restored
        self._busy = threading.Lock()
        self.timings_s: dict[str, float] = {}

    @property
    def host_bytes(self) -> int:
        return self._pool.reserved_bytes

    def prepare(self) -> None:
        """Copy the weights while the engine serves, so that its first sleep only unmaps. Raises EngineError."""
        with self._busy:
            began_s = time.monotonic()
            now = list(self._allocations.items())  # in one step: scratch comes and goes while the engine serves
            self._keep([at for at, data in now if data.tag == WEIGHTS and not data.is_asleep])
            self.timings_s["copy_out"] = time.monotonic() - began_s

    def suspend(self, level: int = 1) -> None:
        """Raises EngineError before anything is unmapped when the host has no room for what must be kept."""
        with self._busy:
            began_s = time.monotonic()
            self._calls.settle()
            awake = [at for at, data in self._allocations.items() if not data.is_asleep]
            tags = STATE if level >= DISCARD_WEIGHTS else (WEIGHTS, *STATE)
            keep = [at for at in awake if self._allocations[at].tag in tags]
            self._forget(set(self._kept) - set(keep) - {at for at, data in self._allocations.items() if data.is_asleep})
            self._keep(keep)
            copied_s = time.monotonic()
            for at in awake:
                self._unmap(at)
            self._lost.difference_update(keep)
            self._lost.update(set(awake) - set(keep))
            self._calls.trim()
            self.timings_s |= {"copy_out": copied_s - began_s, "unmap": time.monotonic() - copied_s}

    def resume(self, tags: Sequence[str] | None = None) -> None:
        """Raises RuntimeError when the device has no room; what this call has mapped is asleep again then."""
        with self._busy:
            began_s = time.monotonic()
            self._calls.trim()
            stream = self._calls.stream()
            mapped: list[int] = []
            try:
                for at in [at for at, data in self._allocations.items() if data.is_asleep and _wakes(data.tag, tags)]:
                    self._mapper.create_and_map(self._allocations[at].handle)
                    self._allocations[at].is_asleep = False
                    mapped.append(at)
                    if at in self._kept and at not in self._lost:
                        block = self._kept[at].block.bytes
                        stream.copy(self._calls.view(at, block.numel()), block)
            except RuntimeError:
                stream.record().wait()
                for at in mapped:
                    self._unmap(at)
                raise
            mapped_s = time.monotonic()
            stream.record().wait()
            self.timings_s |= {"map": mapped_s - began_s, "copy": time.monotonic() - mapped_s}

    def discarded(self, tags: Iterable[str]) -> None:
        """vLLM has unmapped everything with these tags itself, and wants none of it back."""
        gone = {at for at, data in self._allocations.items() if data.tag in tags and data.is_asleep}
        self._lost |= gone - set(self._kept)

    def _unmap(self, at: int) -> None:
        try:
            self._mapper.unmap_and_release(self._allocations[at].handle)
        finally:
            self._allocations[at].is_asleep = True

    def _keep(self, addresses: Sequence[int]) -> None:
        """Bring the host's copies up to date: those of weights only where they have changed."""
        now = dict(zip(addresses, fingerprints([self._device_bytes(at) for at in addresses]), strict=True))
        self._forget({at for at in addresses if at in self._kept and self._size(at) != self._kept_size(at)})
        new = [at for at in addresses if at not in self._kept]
        self._reserve(new)
        stale = [at for at in addresses if at in self._kept and self._kept[at].seen != now[at]]
        for at in (*new, *stale):
            kept = self._kept.get(at)
            block = kept.block if kept else self._pool.take(self._size(at), "the engine's weights")
            block.bytes.copy_(self._device_bytes(at))
            self._kept[at] = Kept(block, now[at])
        if stale:
            log.info("%d allocations had changed since they were copied to the host", len(stale))

    def _reserve(self, addresses: Sequence[int]) -> None:
        size_bytes = sum(aligned(self._size(at)) for at in addresses)
        if size_bytes:
            self._pool.reserve(size_bytes)

    def _forget(self, addresses: Iterable[int]) -> None:
        for at in addresses:
            self._pool.give_back(self._kept.pop(at).block)
            self._lost.discard(at)

    def _device_bytes(self, at: int) -> Any:
        return self._calls.view(at, self._size(at))

    def _size(self, at: int) -> int:
        return int(self._allocations[at].handle[1])

    def _kept_size(self, at: int) -> int:
        return self._kept[at].block.bytes.numel()


def _wakes(tag: str, tags: Sequence[str] | None) -> bool:
    return tags is None or tag in tags or tag not in DEFERRABLE

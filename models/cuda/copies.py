"""Copies between host and device: as few and as long as possible, and never slower than the bus for want of pinning.

Pinned memory is read by the device itself, so one asynchronous copy of everything is the best there is. Pageable
memory goes through two small pinned buffers in turn: while the device reads one, the processor fills the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from models.cuda.calls import CudaCalls, Event, Stream
from models.cuda.pinned import Block, PinnedPool
from models.cuda.regions import aligned

STAGING_BYTES = 32 << 20
TENSOR_ALIGNMENT_BYTES = 16  # the widest load of a kernel, and what tensor maps ask for
MOST_GAP_BYTES = 1 << 20  # copied along rather than starting another copy


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """Bytes of one tensor, or of several that overlap: ``address`` on the host."""

    address: int
    size_bytes: int

    @property
    def end(self) -> int:
        return self.address + self.size_bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Host memory that is copied in one piece to ``offset_bytes`` of a device buffer."""

    address: int
    size_bytes: int
    offset_bytes: int

    @property
    def end(self) -> int:
        return self.address + self.size_bytes

    def offset_of(self, address: int) -> int:
        return self.offset_bytes + address - self.address


def plan_runs(extents: Iterable[Extent], offset_bytes: int = 0) -> tuple[Run, ...]:
    """The fewest copies that bring every extent to an aligned place, in the order in which they lie on the host.

    A run ends where the next extent would be misaligned on the device, or lies beyond a long gap. Runs begin at
    multiples of 512 from ``offset_bytes`` on and do not overlap.
    """
    runs: list[Run] = []
    next_offset = aligned(offset_bytes)
    for extent in sorted(extents):
        last = runs[-1] if runs else None
        if last is not None and _continues(last, extent):
            runs[-1] = Run(last.address, max(last.end, extent.end) - last.address, last.offset_bytes)
        else:
            runs.append(Run(extent.address, extent.size_bytes, next_offset))
        next_offset = aligned(runs[-1].offset_bytes + runs[-1].size_bytes)
    return tuple(runs)


def _continues(run: Run, extent: Extent) -> bool:
    if extent.address < run.end:
        return True  # they share bytes: one of them is a view of the other
    return (extent.address - run.address) % TENSOR_ALIGNMENT_BYTES == 0 and extent.address - run.end <= MOST_GAP_BYTES


def merged(extents: Iterable[Extent]) -> tuple[Extent, ...]:
    """Those that share bytes become one."""
    pieces: list[Extent] = []
    for extent in sorted(extents):
        if pieces and extent.address < pieces[-1].end:
            last = pieces[-1]
            pieces[-1] = Extent(last.address, max(last.end, extent.end) - last.address)
        else:
            pieces.append(extent)
    return tuple(pieces)


class Staging:
    """Two pinned buffers for copies of pageable memory."""

    def __init__(self, pool: PinnedPool, size_bytes: int = STAGING_BYTES) -> None:
        """Raises EngineError when there is no memory for them."""
        self._pool = pool
        self._blocks: list[Block] = []
        for _ in range(2):
            pool.reserve(size_bytes)
            self._blocks.append(pool.take(size_bytes, "a staging buffer"))
        self._busy: list[Event | None] = [None, None]

    def copy(self, stream: Stream, target: torch.Tensor, source: torch.Tensor) -> None:
        """To the device. ``source`` may be changed or unmapped as soon as this returns."""
        for number, at in enumerate(range(0, source.numel(), self._blocks[0].bytes.numel())):
            turn = number % 2
            block = self._blocks[turn].bytes
            piece = source[at : at + block.numel()]
            busy = self._busy[turn]
            if busy is not None:
                busy.wait()  # the device still reads what the last turn but one has put there
            block[: piece.numel()].copy_(piece)
            stream.copy(target[at : at + piece.numel()], block[: piece.numel()])
            self._busy[turn] = stream.record()

    def close(self) -> None:
        for busy in self._busy:
            if busy is not None:
                busy.wait()
        for block in self._blocks:
            self._pool.give_back(block)
        self._blocks.clear()


def timed_copy(calls: CudaCalls, target: torch.Tensor, source: torch.Tensor) -> float:
    """Seconds of device time that one copy takes; blocks."""
    stream = calls.stream()
    began = stream.record()
    stream.copy(target, source)
    ended = stream.record()
    ended.wait()
    return ended.seconds_since(began)

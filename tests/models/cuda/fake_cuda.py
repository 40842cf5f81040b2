"""A device that is played: copies happen when somebody waits for them, memory is short, addresses must be mapped.

What a real device would get wrong in silence is an error here: a copy whose source changed before it was made, memory
that was unregistered while it was in use, an address under which nothing is mapped.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from models.cuda.calls import CannotRegister, Event

ALIGNMENT_BYTES = 512
GARBAGE = 0xA5


def aligned_bytes(size_bytes: int, fill: int = GARBAGE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    room = np.full(size_bytes + ALIGNMENT_BYTES, fill, dtype=np.uint8)
    skip = -room.ctypes.data % ALIGNMENT_BYTES
    return room[skip : skip + size_bytes]


@dataclass
class PlainMemory:
    """Stands for ``HostMemory``."""

    size_bytes: int
    bytes: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.bytes = torch.from_numpy(aligned_bytes(self.size_bytes, 0))

    @property
    def address(self) -> int:
        return self.bytes.data_ptr()


class FakeEvent:
    def __init__(self, stream: FakeStream, moment: int) -> None:
        self._stream = stream
        self.moment = moment

    def wait(self) -> None:
        self._stream.run_until(self.moment)

    def seconds_since(self, earlier: Event) -> float:
        assert isinstance(earlier, FakeEvent)
        copied = sum(size for at, size in self._stream.sizes if earlier.moment < at <= self.moment)
        return copied / self._stream.bytes_per_s


class FakeStream:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self._moment = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self.sizes: list[tuple[int, int]] = []
        self.bytes_per_s = cuda.bytes_per_s

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        assert target.dtype == source.dtype == torch.uint8
        assert target.shape == source.shape
        assert target.dim() == 1
        self._moment += 1
        self.sizes.append((self._moment, source.numel()))
        host = source if self._cuda.is_device(target) else target
        pinned = self._cuda.is_registered(host)
        if not pinned:
            # As the driver does it with pageable memory: read before the call returns.
            source = source.clone()
            self._cuda.pageable_copies += 1
        self._cuda.copies.append(source.numel())
        self._waiting.append((self._moment, lambda: self._run(target, source, host if pinned else None)))

    def _run(self, target: torch.Tensor, source: torch.Tensor, pinned: torch.Tensor | None) -> None:
        assert pinned is None or self._cuda.is_registered(pinned), "memory was unregistered while it was copied"
        target.copy_(source)

    def record(self) -> Event:
        return FakeEvent(self, self._moment)

    def run_until(self, moment: int) -> None:
        while self._waiting and self._waiting[0][0] <= moment:
            self._waiting.pop(0)[1]()


class FakeCuda:
    """``CudaCalls`` on the CPU. ``total_bytes``: of its device; ``registers``: of which memory it can read."""

    def __init__(
        self,
        total_bytes: int = 1 << 30,
        registers: tuple[str, ...] = ("read-only", "read-write"),
        bytes_per_s: float = 1e9,
    ) -> None:
        self.device = torch.device("cpu")
        self.total_bytes = total_bytes
        self.bytes_per_s = bytes_per_s
        self.registers = registers
        self.registered: dict[int, int] = {}
        self.copies: list[int] = []
        self.pageable_copies = 0
        self.cached_bytes = 0
        self._blocks: dict[int, int] = {}  # of the device: address -> bytes
        self.mapped: dict[int, np.ndarray[Any, np.dtype[np.uint8]]] = {}  # by ``FakeDriver``

    def register(self, address: int, size_bytes: int, *, read_only: bool) -> None:
        kind = "read-only" if read_only else "read-write"
        if kind not in self.registers:
            raise CannotRegister(f"this GPU takes no {kind} memory")
        assert address not in self.registered
        self.registered[address] = size_bytes

    def unregister(self, address: int) -> None:
        del self.registered[address]

    def allocate(self, size_bytes: int) -> torch.Tensor:
        if size_bytes > self.free_bytes():
            raise torch.OutOfMemoryError(f"{size_bytes} of {self.free_bytes()} bytes")
        memory = aligned_bytes(size_bytes)
        address = memory.ctypes.data
        self._blocks[address] = size_bytes
        weakref.finalize(memory, self._free, address, size_bytes)
        return torch.from_numpy(memory)

    def _free(self, address: int, size_bytes: int) -> None:
        del self._blocks[address]
        self.cached_bytes += size_bytes  # torch keeps it until it is told to trim

    def view(self, address: int, size_bytes: int) -> torch.Tensor:
        assert self.mapped[address].size >= size_bytes, "the GPU has no memory at this address"
        return torch.from_numpy(self.mapped[address][:size_bytes])

    def stream(self) -> FakeStream:
        return FakeStream(self)

    def settle(self) -> None:
        pass

    def trim(self) -> None:
        self.cached_bytes = 0

    def free_bytes(self) -> int:
        return self.total_bytes - self.used_bytes - self.cached_bytes

    @property
    def used_bytes(self) -> int:
        return sum(self._blocks.values()) + sum(memory.size for memory in self.mapped.values())

    def is_device(self, memory: torch.Tensor) -> bool:
        held = {**self._blocks, **{own.ctypes.data: own.size for own in self.mapped.values()}}
        return any(begin <= memory.data_ptr() < begin + size for begin, size in held.items())

    def is_registered(self, memory: torch.Tensor) -> bool:
        begin, end = memory.data_ptr(), memory.data_ptr() + memory.numel()
        return any(at <= begin and end <= at + size for at, size in self.registered.items())

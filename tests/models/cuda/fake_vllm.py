"""vLLM's allocations on a played device: what is unmapped loses its contents, what is mapped twice is an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from models.cuda.cumem_sleep import AllocationSleep, Mapper
from models.cuda.pinned import PinnedPool
from tests.models.cuda.fake_cuda import GARBAGE, FakeCuda, PlainMemory, aligned_bytes


@dataclass
class FakeAllocation:
    handle: tuple[int, int, int, Any]
    tag: str
    is_asleep: bool = False


class FakeAllocator:
    """``pointer_to_data`` as vLLM's ``CuMemAllocator`` has it."""

    def __init__(self, cuda: FakeCuda, make: Any = FakeAllocation) -> None:
        self.cuda = cuda
        self.pointer_to_data: dict[int, Any] = {}
        self.maps = 0
        self._make = make
        self._next = 0x10_0000_0000

    def add(self, tag: str, size_bytes: int, fill: int | None = None) -> int:
        address = self._next
        self._next += 1 << 30
        data = self._make((0, size_bytes, address, 7), tag)
        self.pointer_to_data[address] = data
        self.create_and_map(data.handle)
        if fill is not None:
            self.bytes(address).fill_(fill)
        return address

    def free(self, address: int) -> None:
        del self.pointer_to_data[address]
        self.cuda.mapped.pop(address, None)

    def bytes(self, address: int) -> torch.Tensor:
        return torch.from_numpy(self.cuda.mapped[address])

    def create_and_map(self, handle: Any) -> None:
        _, size_bytes, address, _ = handle
        assert address not in self.cuda.mapped
        if size_bytes > self.cuda.free_bytes():
            raise RuntimeError("CUDA Error: out of memory at cumem_allocator.cpp:1")
        self.cuda.mapped[address] = aligned_bytes(size_bytes, GARBAGE)
        self.maps += 1

    def unmap_and_release(self, handle: Any) -> None:
        del self.cuda.mapped[handle[2]]

    def sleep(self, limit_bytes: int = 0) -> AllocationSleep:
        mapper = Mapper(self.create_and_map, self.unmap_and_release)
        return AllocationSleep(self.pointer_to_data, mapper, self.cuda, PinnedPool(self.cuda, limit_bytes, PlainMemory))

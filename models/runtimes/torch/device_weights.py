"""A model's weights between a GPU and pinned host memory, and how many bytes they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

ALIGNMENT_BYTES = 512  # torch's own for blocks of device memory

Owner = torch.nn.Module | torch.Tensor
Room = Callable[[int], torch.Tensor]  # bytes -> that many of host memory, flat uint8, from which the bus reads best


def pinned(size_bytes: int) -> torch.Tensor:
    """Page-locked memory from torch. Raises RuntimeError when the machine has none left."""
    return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor as a part of the flat copy."""

    tensor: torch.Tensor
    offset_bytes: int

    def of(self, flat: torch.Tensor) -> torch.Tensor:
        given = self.tensor
        made = torch.empty(0, dtype=given.dtype, device=flat.device)
        begin = self.offset_bytes // given.element_size()
        return made.set_(flat.untyped_storage(), flat.storage_offset() + begin, given.shape, given.stride())


class DeviceWeights:
    """Moves parameters, buffers and loose tensors off the GPU and back. On the CPU both are nothing.

    The pinned copy is one piece of memory, made at the first sleep and kept: weights do not change, so every later
    sleep only frees, and a wake is one allocation and one copy at the speed of the bus.
    """

    def __init__(self, owners: Iterable[Owner], device: torch.device, room: Room = pinned) -> None:
        self._owners = tuple(owners)
        self._device = device
        self._room = room
        self._views: list[_View] = []
        self._host: torch.Tensor | None = None

    @property
    def moves(self) -> bool:
        return self._device.type == "cuda"

    @property
    def has_copy(self) -> bool:
        """Whether the copy that a wake reads from is there."""
        return self._host is not None

    def to_host(self) -> None:
        """Blocks until the GPU's memory is given back to the driver. Raises what ``room`` raises; nothing has moved."""
        if not self.moves:
            return
        if self._host is None:
            self._host = self._copied()
        for view in self._views:
            view.tensor.data = view.of(self._host)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def to_device(self) -> None:
        """Blocks until the weights are there. Raises torch.OutOfMemoryError; they are on the host still then."""
        if not self.moves or self._host is None:
            return
        flat = torch.empty_like(self._host, device=self._device)
        flat.copy_(self._host, non_blocking=True)
        for view in self._views:
            view.tensor.data = view.of(flat)
        torch.cuda.synchronize()

    def size_bytes(self) -> int:
        """Each byte counted once, however many tensors it belongs to."""
        return _covered_bytes(_span(tensor) for tensor in self._tensors())

    def mapped_bytes(self, files: Iterable[torch.Tensor]) -> int:
        """Those of ``size_bytes`` that are in the memory of ``files``, tensors as they were mapped."""
        own = [_span(tensor) for tensor in self._tensors() if not tensor.is_cuda]
        mapped = [_span(tensor) for tensor in files]
        return _covered_bytes(own) + _covered_bytes(mapped) - _covered_bytes([*own, *mapped])

    def _copied(self) -> torch.Tensor:
        """All that is on the device, in one piece of host memory; ``_views`` says what is where."""
        on_device = [tensor for tensor in self._tensors() if tensor.is_cuda]
        # One storage may hold many tensors, and neighbours in memory stay neighbours.
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in on_device}
        offsets: dict[int, int] = {}
        end = 0
        for address, storage in sorted(storages.items()):
            offsets[address] = end
            end += -(-storage.nbytes() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        flat = self._room(end)
        for address, storage in storages.items():
            begin = offsets[address]
            source = torch.empty(0, dtype=torch.uint8, device=self._device).set_(storage)
            flat[begin : begin + storage.nbytes()].copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        self._views = [
            _View(
                tensor,
                offsets[tensor.untyped_storage().data_ptr()] + int(tensor.storage_offset()) * tensor.element_size(),
            )
            for tensor in on_device
        ]
        return flat

    def _tensors(self) -> Iterator[torch.Tensor]:
        seen: set[int] = set()
        for owner in self._owners:
            for tensor in (owner,) if isinstance(owner, torch.Tensor) else _held(owner):
                if id(tensor) not in seen and not tensor.is_meta:
                    seen.add(id(tensor))
                    yield tensor


def weight_owners(model: Any, bound: Iterable[torch.nn.Module]) -> list[Owner]:
    """What ``bound`` holds, and the modules and tensors among a model's attributes, alone or in lists and dicts."""
    found: list[Owner] = list(bound)
    for value in vars(model).values() if hasattr(model, "__dict__") else ():
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
        found += [member for member in members if isinstance(member, torch.nn.Module | torch.Tensor)]
    return list({id(owner): owner for owner in found}.values())


def _held(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The addresses that it reads from, begin and end."""
    if not tensor.numel():
        return 0, 0
    begin = tensor.data_ptr()
    reach = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + (reach + 1) * tensor.element_size()


def _covered_bytes(spans: Iterable[tuple[int, int]]) -> int:
    """Bytes that are in at least one of them."""
    total = end = 0
    for begin, until in sorted(spans):
        total += max(0, until - max(begin, end))
        end = max(end, until)
    return total

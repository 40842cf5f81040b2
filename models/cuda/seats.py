"""Tensors of a module as bytes that can lie anywhere: which bytes each one shows, and how it is put over others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from models.cuda.copies import Extent
from models.runtimes.protocol import EngineError

Owner = torch.nn.Module | torch.Tensor
PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


@dataclass(frozen=True, slots=True)
class Seat:
    """A tensor and the bytes it shows: ``skip_bytes`` into piece number ``piece``."""

    tensor: torch.Tensor
    piece: int
    skip_bytes: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def bind(self, pieces: Sequence[torch.Tensor]) -> None:
        """Show the same bytes of another copy; ``pieces`` are flat uint8, on any device."""
        size_bytes = span_bytes(self.shape, self.stride, self.tensor.element_size())
        own = pieces[self.piece][self.skip_bytes : self.skip_bytes + size_bytes]
        self.tensor.data = own.view(self.tensor.dtype).as_strided(self.shape, self.stride)


def movable_tensors(owners: Iterable[Owner], on: torch.device | None = None) -> tuple[torch.Tensor, ...]:
    """Parameters, buffers and loose tensors, each once, without empty ones; with ``on``, only those of that device.

    Raises EngineError for one that has no bytes to move.
    """
    found: dict[int, torch.Tensor] = {}
    for owner in owners:
        for name, tensor in _named(owner):
            if on is not None and tensor.device != on:
                continue
            if type(tensor) not in PLAIN or tensor.layout is not torch.strided:
                raise EngineError(
                    f"{name} is a {type(tensor).__name__}, which cannot leave the GPU for a while", "code"
                )
            if tensor.is_meta:
                raise EngineError(f"{name} has no values: it was never loaded", "code")
            if tensor.numel():
                found[id(tensor)] = tensor
    return tuple(found.values())


def _named(owner: Owner) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(owner, torch.Tensor):
        yield "a tensor of the model's", owner
        return
    yield from owner.named_parameters()
    yield from owner.named_buffers()


def extent_of(tensor: torch.Tensor) -> Extent:
    """The bytes from its first element to its last."""
    return Extent(tensor.data_ptr(), span_bytes(tensor.shape, tensor.stride(), tensor.element_size()))


def bytes_of(extents: Sequence[Extent], tensors: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The memory of each extent as flat uint8, through a tensor that shows all of it. Raises EngineError."""
    storages = {(tensor.device, tensor.untyped_storage().data_ptr()): tensor.untyped_storage() for tensor in tensors}
    found = []
    by_begin = sorted(storages.items(), key=lambda item: item[0][1])
    for extent in extents:
        for (device, begin), storage in by_begin:
            if begin <= extent.address and extent.end <= begin + storage.nbytes():
                empty = torch.empty(0, dtype=torch.uint8, device=device)
                found.append(empty.set_(storage, extent.address - begin, (extent.size_bytes,), (1,)))
                break
        else:
            raise EngineError("weights share memory in parts that no tensor shows whole", "code")
    return tuple(found)


def seated(tensors: Iterable[torch.Tensor], pieces: Sequence[Extent]) -> tuple[Seat, ...]:
    """``pieces`` must not overlap and hold every tensor whole."""
    numbers = sorted(range(len(pieces)), key=lambda number: pieces[number])
    seats = []
    for tensor in tensors:
        extent = extent_of(tensor)
        number = _piece_of(extent, pieces, numbers)
        skip_bytes = extent.address - pieces[number].address
        seats.append(Seat(tensor, number, skip_bytes, tuple(tensor.shape), tensor.stride()))
    return tuple(seats)


def _piece_of(extent: Extent, pieces: Sequence[Extent], numbers: Sequence[int]) -> int:
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if pieces[numbers[middle]].address <= extent.address:
            low = middle + 1
        else:
            high = middle
    if low == 0 or extent.end > pieces[numbers[low - 1]].end:
        raise ValueError(f"no piece holds {extent}")
    return numbers[low - 1]


def span_bytes(shape: Sequence[int], stride: Sequence[int], item_bytes: int) -> int:
    """From the first byte of a strided tensor to its last; 0 for one without elements."""
    if 0 in shape:
        return 0
    return (sum((length - 1) * step for length, step in zip(shape, stride, strict=True)) + 1) * item_bytes

"""bf16 tensors without torch: rounding, seeded normal values, and the safetensors format."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Bf16 = npt.NDArray[np.uint16]  # numpy has no bf16: the upper half of a float32, as bits
Real = npt.NDArray[np.float64]

ALIGNMENT_BYTES = 64  # the data begins on a cache line, so that it can be used where it is mapped


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor that is made only when it is written, so that a large model never lies in memory as a whole."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[], Bf16]

    @property
    def size_bytes(self) -> int:
        return 2 * int(np.prod(self.shape))


def to_bf16(values: Real) -> Bf16:
    """Round to the nearest bf16, ties to even. Values must be finite."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype(np.uint16)


def generator(seed: int, name: str) -> np.random.Generator:
    """A tensor's own source of randomness: the order in which tensors are made does not matter."""
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))


@cache
def _quantiles() -> Real:
    """The standard normal distribution in 65,536 steps of equal weight."""
    upper = [NormalDist().inv_cdf((step + 0.5) / 65536) for step in range(32768, 65536)]
    return np.array([-value for value in reversed(upper)] + upper)


def normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> Bf16:
    """Normal values by table: 16 random bits choose a quantile. Ten times as fast as drawing and rounding floats."""
    table = to_bf16(_quantiles() * std)
    chosen = np.frombuffer(rng.bytes(2 * int(np.prod(shape))), dtype="<u2")
    drawn: Bf16 = table[chosen].reshape(shape)
    return drawn


def write_safetensors(path: Path, tensors: Sequence[Tensor]) -> None:
    """Write a safetensors file and bring it to the disk. Raises ValueError when a tensor is not of its stated shape."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.size_bytes
        header[tensor.name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT_BYTES)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors:
            bits = tensor.make()
            if bits.shape != tensor.shape or bits.dtype != np.uint16:
                raise ValueError(f"{tensor.name}: made {bits.dtype} {bits.shape}, stated {tensor.shape}")
            file.write(np.ascontiguousarray(bits).data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file and bring it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

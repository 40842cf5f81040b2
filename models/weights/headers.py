"""Checks safetensors files by their headers alone, with the standard library.

Format: 8 bytes little-endian header length, the header as JSON ``{tensor: {dtype, shape, data_offsets}}``, then the
data without holes (https://huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.weights.errors import Damaged

MOST_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself
DTYPE_BITS: dict[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """``size_bytes``: of the whole file. ``tensors``: their names."""

    size_bytes: int
    tensors: frozenset[str]


def check_weights(path: Path) -> WeightsFile:
    """Raises Damaged, naming the file, when a loader would fail on it or read past its end."""
    name = path.name
    try:
        with open(path, "rb", opener=_open_without_blocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Damaged(f"the weights file {name} is not a regular file")
            header_bytes = _header_length(file.read(8), status.st_size, name)
            raw = file.read(header_bytes)
    except FileNotFoundError:
        raise Damaged(f"the weights file {name} is missing") from None
    except OSError as error:
        raise Damaged(f"the weights file {name} cannot be read ({error.strerror})") from None
    if len(raw) != header_bytes:
        raise Damaged(f"the weights file {name} is truncated within its header")
    tensors = _tensors(raw, name)
    _check_size(_data_end(tensors, name), status.st_size - 8 - header_bytes, name)
    return WeightsFile(status.st_size, frozenset(tensors))


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe that nobody writes to would never open otherwise


def _header_length(prefix: bytes, file_bytes: int, name: str) -> int:
    if len(prefix) < 8:
        raise Damaged(f"the weights file {name} is truncated: it holds only {file_bytes} bytes")
    length = int.from_bytes(prefix, "little")
    if length > MOST_HEADER_BYTES:
        raise Damaged(f"the weights file {name} is corrupt: its header claims {length} bytes")
    if 8 + length > file_bytes:
        raise Damaged(f"the weights file {name} is truncated within its header")
    return length


def _tensors(raw: bytes, name: str) -> dict[str, Any]:
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise Damaged(f"the weights file {name} is corrupt: its header is not valid JSON")
    notes = header.pop("__metadata__", None)
    if notes is not None and not (isinstance(notes, dict) and all(isinstance(note, str) for note in notes.values())):
        raise Damaged(f"the weights file {name} is corrupt: its __metadata__ is not text by name")
    return header


def _data_end(tensors: dict[str, Any], name: str) -> int:
    """Where the data ends by the header; every byte before it belongs to exactly one tensor."""
    spans = sorted(_span(tensor, entry, name) for tensor, entry in tensors.items())
    end = 0
    for begin, stop, tensor in spans:
        if begin != end:
            fault = "overlaps another" if begin < end else "leaves a hole before it"
            raise Damaged(f"the weights file {name} is corrupt: tensor {tensor[:100]} {fault}")
        end = stop
    return end


def _span(tensor: str, entry: Any, name: str) -> tuple[int, int, str]:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(stop)]}:
            bits = DTYPE_BITS.get(dtype)
            if bits is None:
                raise Damaged(f"the weights file {name}: tensor {tensor[:100]} has the unknown type {dtype[:20]!r}")
            sound = all(type(size) is int and size >= 0 for size in shape)
            if sound and 0 <= begin <= stop and (stop - begin) * 8 == bits * math.prod(shape):
                return begin, stop, tensor
    raise Damaged(f"the weights file {name} is corrupt: the entry of tensor {tensor[:100]} makes no sense")


def _check_size(expected_bytes: int, found_bytes: int, name: str) -> None:
    short_bytes = expected_bytes - found_bytes
    if short_bytes > 0:
        fault = f"is truncated: {short_bytes} of {expected_bytes} bytes of data are missing"
        raise Damaged(f"the weights file {name} {fault}")
    if short_bytes < 0:
        fault = f"is corrupt: {-short_bytes} bytes follow the data that its header describes"
        raise Damaged(f"the weights file {name} {fault}")

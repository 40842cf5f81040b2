"""Which GPUs a node offers: simulated ones as named by the operator (``2x1GiB``), or the real ones."""

from __future__ import annotations

import re

from models.catalog.errors import UnitError
from models.catalog.units import format_bytes, parse_bytes

MOST_GPUS = 1024
_COUNT_AND_SIZE = re.compile(r"\s*(?:([0-9]{1,6})\s*[xX]\s*)?([^xX]+)", re.ASCII)
_HOW = "write simulated GPUs like 2x1GiB, or 2x1GiB,1x4GiB for different sizes"


def parse_gpus(spec: object) -> tuple[int, ...]:
    """Memory in bytes of each simulated GPU: ``2x1GiB`` gives two. Raises UnitError."""
    if not isinstance(spec, str) or not spec.strip():
        raise UnitError(f"{spec!r} names no GPUs", _HOW)
    sizes: list[int] = []
    for part in spec.split(","):
        match = _COUNT_AND_SIZE.fullmatch(part)
        if match is None:
            raise UnitError(f"{part.strip()[:60]!r} does not name GPUs", _HOW)
        count, memory_bytes = int(match[1] or 1), parse_bytes(match[2])
        if count < 1 or memory_bytes < 1:
            raise UnitError(f"{part.strip()!r} has no GPU or no memory", _HOW)
        if len(sizes) + count > MOST_GPUS:
            raise UnitError(f"{spec.strip()[:60]!r} names more than {MOST_GPUS} GPUs", _HOW)
        sizes += [memory_bytes] * count
    return tuple(sizes)


def format_gpus(sizes: tuple[int, ...]) -> str:
    """What ``parse_gpus`` reads back, sizes to two decimals: ``2x1GiB,1x4GiB``."""
    runs: list[list[int]] = []
    for size in sizes:
        if runs and runs[-1][1] == size:
            runs[-1][0] += 1
        else:
            runs.append([1, size])
    return ",".join(f"{count}x{format_bytes(size).replace(' ', '')}" for count, size in runs)

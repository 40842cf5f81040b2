"""Which GPUs a node offers: simulated ones as named by the operator (``2x1GiB``), or the real ones.

``@20GiB/s`` after a size says how fast the bus to that simulated GPU is: loading and waking then take the time that
the weights would need to cross it. Without it no time passes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.catalog.errors import UnitError
from models.catalog.units import format_bytes, parse_bytes

MOST_GPUS = 1024
_PART = re.compile(r"\s*(?:([0-9]{1,6})\s*[xX]\s*)?([^xX@]+?)\s*(?:@\s*([^@]*?)\s*)?", re.ASCII)
_PER_SECOND = re.compile(r"(.+?)\s*/\s*s", re.ASCII | re.IGNORECASE)
_HOW = "write simulated GPUs like 2x1GiB, or 2x1GiB,1x4GiB for different sizes"
_HOW_LINK = "write the speed of the bus like 2x1GiB@20GiB/s, or leave it out"


@dataclass(frozen=True, slots=True)
class SimulatedGpu:
    """``link_bytes_per_s``: of the bus that its weights cross; 0 when that takes no time."""

    memory_bytes: int
    link_bytes_per_s: float = 0.0


def parse_simulated(spec: object) -> tuple[SimulatedGpu, ...]:
    """``2x1GiB@20GiB/s`` gives two. Raises UnitError."""
    if not isinstance(spec, str) or not spec.strip():
        raise UnitError(f"{spec!r} names no GPUs", _HOW)
    found: list[SimulatedGpu] = []
    for part in spec.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise UnitError(f"{part.strip()[:60]!r} does not name GPUs", _HOW)
        count, memory_bytes = int(match[1] or 1), parse_bytes(match[2])
        if count < 1 or memory_bytes < 1:
            raise UnitError(f"{part.strip()!r} has no GPU or no memory", _HOW)
        if len(found) + count > MOST_GPUS:
            raise UnitError(f"{spec.strip()[:60]!r} names more than {MOST_GPUS} GPUs", _HOW)
        found += [SimulatedGpu(memory_bytes, _link(match[3], part.strip()))] * count
    return tuple(found)


def parse_gpus(spec: object) -> tuple[int, ...]:
    """Only their memory in bytes. Raises UnitError."""
    return tuple(gpu.memory_bytes for gpu in parse_simulated(spec))


def format_gpus(sizes: tuple[int, ...]) -> str:
    """What ``parse_gpus`` reads back, sizes to two decimals: ``2x1GiB,1x4GiB``."""
    runs: list[list[int]] = []
    for size in sizes:
        if runs and runs[-1][1] == size:
            runs[-1][0] += 1
        else:
            runs.append([1, size])
    return ",".join(f"{count}x{format_bytes(size).replace(' ', '')}" for count, size in runs)


def exact_text(gpu: SimulatedGpu) -> str:
    """What ``parse_simulated`` reads back to the last byte."""
    link = f"@{round(gpu.link_bytes_per_s)}B/s" if gpu.link_bytes_per_s else ""
    return f"{gpu.memory_bytes}B{link}"


def _link(text: str | None, part: str) -> float:
    if text is None:
        return 0.0
    match = _PER_SECOND.fullmatch(text)
    if match is None:
        raise UnitError(f"{part[:60]!r} does not say how many bytes a second its bus takes", _HOW_LINK)
    try:
        link_bytes = parse_bytes(match[1])
    except UnitError as error:
        raise UnitError(f"{part[:60]!r}: {error.message}", _HOW_LINK) from None
    if link_bytes < 1:
        raise UnitError(f"{part[:60]!r} has a bus that takes nothing", _HOW_LINK)
    return float(link_bytes)

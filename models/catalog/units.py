"""Sizes and durations as people write them: ``512MiB``, ``1.5GB``, ``500ms``, ``10m``."""

from __future__ import annotations

import re
from decimal import Decimal

from models.catalog.errors import UnitError

BYTE_UNITS: dict[str, int] = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
SECOND_UNITS: dict[str, Decimal] = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
MOST_BYTES = 2**63 - 1  # what JSON readers and Redis hold in one integer
MOST_SECONDS = 10 * 365 * 24 * 3600.0

_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]*)\s*", re.ASCII)
_BYTE_NAMES = {name.lower(): factor for name, factor in BYTE_UNITS.items()}
_HOW_BYTES = "write a size like 512MiB, 1.5GiB or 2GB"
_HOW_SECONDS = "write a duration like 500ms, 10s, 5m or 2h"


def parse_bytes(value: object) -> int:
    """Bytes of ``value``: a whole number, or a number with a unit (KB = 1000 B, KiB = 1024 B; case does not matter).

    A fraction of a byte is rounded to the nearest byte. Raises UnitError.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return _checked_bytes(Decimal(value), str(value)[:60])
    if not isinstance(value, str):
        raise UnitError(f"{_shown(value)} is not a size", _HOW_BYTES)
    number, unit = _split(value, "size", _HOW_BYTES)
    if unit and unit.lower() not in _BYTE_NAMES:
        raise UnitError(f"{_shown(value)} has the unknown unit {unit!r}", _byte_unit_hint(unit))
    return _checked_bytes(number * _BYTE_NAMES[unit.lower() or "b"], _shown(value))


def format_bytes(size_bytes: int) -> str:
    """For people: the largest binary unit, at most two decimals (``1.5 GiB``). ``parse_bytes`` reads it back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if abs(size_bytes) >= BYTE_UNITS[unit]:
            return f"{size_bytes / BYTE_UNITS[unit]:.2f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{size_bytes} B"


def parse_seconds(value: object) -> float:
    """Seconds of ``value``: a number, or a number with one of the units ms, s, m, h. Raises UnitError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= MOST_SECONDS else float("inf")
        return _checked_seconds(seconds, str(value)[:60])
    if not isinstance(value, str):
        raise UnitError(f"{_shown(value)} is not a duration", _HOW_SECONDS)
    number, unit = _split(value, "duration", _HOW_SECONDS)
    if unit and unit not in SECOND_UNITS:
        raise UnitError(f"{_shown(value)} has the unknown unit {unit!r}", _HOW_SECONDS)
    return _checked_seconds(float(number * SECOND_UNITS[unit or "s"]), _shown(value))


def format_seconds(seconds: float) -> str:
    """For people: ``250ms``, ``1.5s``, ``10m``, ``2h``. ``parse_seconds`` reads it back."""
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds >= factor and seconds % factor == 0:
            return f"{int(seconds // factor)}{unit}"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.3f}".rstrip("0").rstrip(".") + "ms"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def _split(text: str, noun: str, how: str) -> tuple[Decimal, str]:
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None:
        raise UnitError(f"{_shown(text)} is not a {noun}", how)
    return Decimal(match[1]), match[2]


def _checked_bytes(size: Decimal, shown: str) -> int:
    if size < 0:
        raise UnitError(f"{shown} is negative", _HOW_BYTES)
    if size > MOST_BYTES:
        raise UnitError(f"{shown} is larger than any memory", _HOW_BYTES)
    return int(size.to_integral_value())


def _checked_seconds(seconds: float, shown: str) -> float:
    if not 0 <= seconds <= MOST_SECONDS:  # also refuses nan, which compares false
        raise UnitError(f"{shown} is not between 0 and ten years", _HOW_SECONDS)
    return seconds


def _byte_unit_hint(unit: str) -> str:
    near = [name for name in BYTE_UNITS if len(name) > 1 and name.lower().startswith(unit.lower())]
    return f"did you mean {' or '.join(near)}?" if near else _HOW_BYTES


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

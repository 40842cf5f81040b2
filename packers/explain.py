"""Words for people: sizes, spans of time, lists of names."""

from __future__ import annotations

from collections.abc import Iterable

MIB = 1 << 20
GIB = 1 << 30


def size(size_bytes: int) -> str:
    """``size_bytes`` in GiB or MiB, as short as it is true: "1.5 GiB", "300 MiB", "512 bytes"."""
    if size_bytes >= GIB:
        return f"{_short(size_bytes / GIB)} GiB"
    if size_bytes >= MIB:
        return f"{_short(size_bytes / MIB)} MiB"
    return f"{size_bytes} bytes"


def span(span_s: float) -> str:
    """A length of time: "0.4 s", "12 s", "5 min", "2.5 h"."""
    if span_s < 10:
        return f"{_short(max(span_s, 0.0), 1)} s"
    if span_s < 120:
        return f"{span_s:.0f} s"
    if span_s < 7200:
        return f"{span_s / 60:.0f} min"
    return f"{_short(span_s / 3600, 1)} h"


def names(things: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"; each name once, in the order given."""
    listed = list(dict.fromkeys(things))
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} and {listed[-1]}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(number: float, places: int = 2) -> str:
    return f"{number:.{places}f}".rstrip("0").rstrip(".")

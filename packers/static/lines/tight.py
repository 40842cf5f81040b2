"""Where a packing at the bound leaves almost nothing free, only almost full bins can be part of it: all of them."""

from __future__ import annotations

import numpy as np

from packers.static.lines.line import Line, Pattern
from packers.static.lines.triples import MOST_SIZES

MOST_PATTERNS = 40_000


def tight_triples(line: Line, waste: int) -> list[Pattern] | None:
    """Every pattern of three items that leaves at most ``waste`` free; None if these are too many, or if bins hold
    more than three items."""
    if int(line.sizes[-1]) * 4 <= line.capacity or len(line.sizes) > MOST_SIZES or waste < 0:
        return None
    found: list[Pattern] = []
    ascending = line.sizes[::-1]
    counts = line.counts.tolist()
    kinds = len(line.sizes)
    for first in range(kinds):
        room = line.capacity - int(line.sizes[first]) - line.sizes[first:]
        # Ascending positions of the thirds that fit, and leave no more than the waste.
        end = np.searchsorted(ascending, room, side="right")
        start = np.searchsorted(ascending, room - waste, side="left")
        for offset in np.flatnonzero(end > start).tolist():
            second = first + offset
            for position in range(int(start[offset]), int(end[offset])):
                third = kinds - 1 - position
                if third < second:
                    break  # this set is met again with its items in another order
                held = (first, second, third)
                pattern = tuple((kind, held.count(kind)) for kind in sorted(set(held)))
                if all(counts[kind] >= copies for kind, copies in pattern):
                    found.append(pattern)
            if len(found) > MOST_PATTERNS:
                return None
    return found

"""Pricing: the patterns worth most at given prices, by dynamic programming over the capacity, exact in integers.

The table over the sizes from the first and the one from the last together give, for every size, the best pattern that
holds it: one pass yields as many new columns as there are sizes, and column generation ends after a few dozen passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.static.lines.line import Ints, Pattern

MOST_CELLS = 1 << 23  # of one table; wider bins are priced in coarser units


@dataclass(frozen=True, slots=True)
class Priced:
    """``most``: no pattern is worth more. ``patterns``: those found, the one worth most of all among them."""

    most: int
    patterns: tuple[Pattern, ...]


class Knapsack:
    """Of items that fit in ``capacity``."""

    def __init__(self, sizes: Ints, capacity: int) -> None:
        self._sizes, self._capacity = sizes, capacity

    def price(self, values: Ints, counts: Ints, floor: int, most_patterns: int) -> Priced:
        """Patterns worth more than ``floor``, at most ``most_patterns`` besides the best.

        ``values`` by size; no pattern holds more than ``counts`` of a size.
        """
        used = np.flatnonzero((values > 0) & (counts > 0) & (self._sizes <= self._capacity))
        if len(used) == 0:
            return Priced(0, ())
        sizes, worth = self._sizes[used], values[used]
        limits = np.minimum(counts[used], self._capacity // sizes)
        front = _table(sizes, limits, worth, self._capacity)
        back = _table(sizes[::-1], limits[::-1], worth[::-1], self._capacity)
        total, split = _through_each(front, back, sizes, worth, self._capacity)
        found = [_walk(front, sizes, worth, self._capacity, len(used))]
        for at in np.argsort(-total, kind="stable")[:most_patterns].tolist():
            if total[at] <= floor:
                break
            room = int(split[at])
            held = _walk(front, sizes, worth, room, at)
            rest = self._capacity - int(sizes[at]) - room
            behind = _walk(back, sizes[::-1], worth[::-1], rest, len(used) - 1 - at)
            held += [len(used) - 1 - index for index in behind]
            found.append([*held, at])
        patterns = dict.fromkeys(_pattern(used, held) for held in found)
        return Priced(int(front[-1, -1]), tuple(patterns))


def _table(sizes: Ints, limits: Ints, worth: Ints, capacity: int) -> Ints:
    """``table[i, w]``: the most that items of the first ``i`` sizes are worth within ``w``."""
    table = np.zeros((len(sizes) + 1, capacity + 1), np.int64)
    for index, (size, limit, value) in enumerate(zip(sizes.tolist(), limits.tolist(), worth.tolist(), strict=True)):
        row, chunk = table[index + 1], 1
        np.copyto(row, table[index])
        while limit > 0:  # 1, 2, 4, ... copies at once make up every number of copies
            copies = min(chunk, limit)
            shift = copies * size
            if shift > capacity:
                break
            np.maximum(row[shift:], row[:-shift] + copies * value, out=row[shift:])
            limit -= copies
            chunk *= 2
    return table


def _through_each(front: Ints, back: Ints, sizes: Ints, worth: Ints, capacity: int) -> tuple[Ints, Ints]:
    """For every size the most that a pattern with one such item is worth, and the room left to the sizes before it."""
    total, split = np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64)
    for index, size in enumerate(sizes.tolist()):
        room = capacity - size
        both = front[index, : room + 1] + back[len(sizes) - 1 - index, room::-1]
        at = int(both.argmax())
        total[index], split[index] = both[at] + worth[index], at
    return total, split


def _walk(table: Ints, sizes: Ints, worth: Ints, room: int, level: int) -> list[int]:
    """Which of the first ``level`` sizes make up ``table[level, room]``, one entry for each item."""
    held: list[int] = []
    value = int(table[level, room])
    while value > 0:
        # The first row that reaches the value is the first that has to hold its own size.
        level = int(np.searchsorted(table[: level + 1, room], value))
        held.append(level - 1)
        room -= int(sizes[level - 1])
        value -= int(worth[level - 1])
    return held


def _pattern(used: Ints, held: list[int]) -> Pattern:
    indices, copies = np.unique(used[np.array(held, np.int64)], return_counts=True)
    return tuple(zip(indices.tolist(), copies.tolist(), strict=True))

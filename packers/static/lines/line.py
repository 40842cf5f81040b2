"""The nouns of one-dimensional packing: the items by size, a pattern for one bin, and a packing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Pattern = tuple[tuple[int, int], ...]  # (index of the size, copies of it), by index: what one bin holds

LARGEST = 2**53  # beyond it the exact integer arithmetic of the bounds could overflow


@dataclass(frozen=True, eq=False)
class Line:
    """``sizes`` are distinct and descending, ``counts[i]`` items have ``sizes[i]``; none is larger than a bin."""

    sizes: Ints
    counts: Ints
    capacity: int

    @classmethod
    def of(cls, sizes: Iterable[int], capacity: int) -> Line:
        """Raises ValueError for a size that is below 1 or fits in no bin."""
        found = np.fromiter(sizes, np.int64)
        if not 0 <= capacity <= LARGEST:
            raise ValueError(f"the capacity must be from 0 to {LARGEST}, got {capacity}")
        if len(found) and not 1 <= int(found.min()) <= int(found.max()) <= capacity:
            raise ValueError(f"sizes must be from 1 to {capacity}, got {int(found.min())} to {int(found.max())}")
        return cls.counted(found, np.ones(len(found), np.int64), capacity)

    @classmethod
    def counted(cls, sizes: Ints, counts: Ints, capacity: int) -> Line:
        """Equal sizes are put together, empty ones left out, and all of it is in the coarsest unit that loses
        nothing."""
        used = (sizes > 0) & (counts > 0)
        distinct, which = np.unique(sizes[used], return_inverse=True)
        totals = np.zeros(len(distinct), np.int64)
        np.add.at(totals, which, counts[used])
        unit = int(np.gcd.reduce(distinct)) if len(distinct) else 1
        return cls(distinct[::-1] // unit, totals[::-1].copy(), capacity // unit)

    @cached_property
    def items(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def volume(self) -> int:
        return sum(size * count for size, count in zip(self.sizes.tolist(), self.counts.tolist(), strict=True))

    def fits(self, pattern: Pattern) -> bool:
        return sum(int(self.sizes[index]) * copies for index, copies in pattern) <= self.capacity

    def rest(self, counts: Ints) -> Line:
        """The same sizes with other counts; sizes that none is left of stay, so that indices keep their meaning."""
        return Line(self.sizes, counts, self.capacity)


@dataclass(frozen=True, slots=True)
class Packing:
    """``bins`` patterns that together hold every item; no packing has fewer than ``at_least`` bins."""

    patterns: tuple[Pattern, ...]
    at_least: int

    @property
    def bins(self) -> int:
        return len(self.patterns)

    @property
    def proved(self) -> bool:
        return self.bins <= self.at_least


def clip(pattern: Pattern, counts: Sequence[int]) -> Pattern:
    """What of ``pattern`` is still to be packed."""
    return tuple((index, min(copies, counts[index])) for index, copies in pattern if counts[index] > 0)


def take(pattern: Pattern, counts: list[int]) -> None:
    for index, copies in pattern:
        counts[index] -= copies


def times(pattern: Pattern, counts: Sequence[int]) -> int:
    """How often the whole pattern can be taken."""
    return min((counts[index] // copies for index, copies in pattern), default=0)

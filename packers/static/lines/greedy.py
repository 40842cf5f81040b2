"""Packing without a linear program: best-fit decreasing, and filling one bin after the other as full as it gets."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from packers.static.lines.line import Line, Pattern, clip, take, times

# Subset sums are kept as the bits of one integer; wider bins would make each step slow.
MOST_BITS = 1 << 14


def best_fit_decreasing(line: Line) -> list[Pattern]:
    """Largest first, each into the bin that it fills best; at most 11/9 of the optimum + 6/9 (Johnson 1973)."""
    free: list[tuple[int, int]] = []
    bins: list[list[int]] = []
    for index, (size, count) in enumerate(zip(line.sizes.tolist(), line.counts.tolist(), strict=True)):
        for _ in range(count):
            at = bisect_left(free, (size, -1))
            if at == len(free):
                left, which = line.capacity, len(bins)
                bins.append([])
            else:
                left, which = free.pop(at)
            bins[which].append(index)
            insort(free, (left - size, which))
    return [tuple(sorted(Counter(held).items())) for held in bins]


def fill_bins(line: Line) -> list[Pattern]:
    """The largest item left, then whatever fills its bin best, large items first (Gupta and Ho's minimum bin slack).

    Sizes are rounded up to ``MOST_BITS`` steps where a bin is wider; then no bin is overfull, but some are not as full
    as they could be.
    """
    step = -(-line.capacity // MOST_BITS)
    sizes = [-(-size // step) for size in line.sizes.tolist()]
    capacity = line.capacity // step
    if max(sizes, default=0) > capacity:
        return best_fit_decreasing(line)  # rounding up made the largest too large
    counts: list[int] = line.counts.tolist()
    patterns: list[Pattern] = []
    for first in range(len(sizes)):
        while counts[first] > 0:
            pattern = _fullest(sizes, counts, first, capacity)
            for _ in range(max(1, times(pattern, counts))):
                patterns.append(pattern)
                take(pattern, counts)
    return patterns


def _fullest(sizes: Sequence[int], counts: Sequence[int], first: int, capacity: int) -> Pattern:
    """One item of size ``first``, and of this and the smaller sizes what fills the bin best."""
    target = capacity - sizes[first]
    left = {index: counts[index] - (index == first) for index in range(first, len(sizes)) if sizes[index] <= target}
    used = [index for index in left if left[index] > 0]
    reached = _subset_sums(sizes, left, used[::-1], target)
    if len(reached) > len(used):
        target = reached[-1].bit_length() - 1
    held = Counter({first: 1})
    for position, index in enumerate(used):
        copies, smaller = min(left[index], target // sizes[index]), len(used) - 1 - position
        # Where the smaller sizes reach every sum, whatever is taken of this one can be completed.
        if smaller < len(reached):
            while copies > 0 and not (reached[smaller] >> (target - copies * sizes[index])) & 1:
                copies -= 1
        held[index] += copies
        target -= copies * sizes[index]
    return tuple(sorted((index, copies) for index, copies in held.items() if copies))


def _subset_sums(sizes: Sequence[int], left: Mapping[int, int], ascending: Sequence[int], room: int) -> list[int]:
    """The sums up to ``room`` that the first 0, 1, 2, ... sizes reach, as bits; it ends where all are reached."""
    within = (1 << (room + 1)) - 1
    reached = [1]
    for index in ascending:
        sums, rest, chunk = reached[-1], min(left[index], room // sizes[index]), 1
        if sums == within:
            break
        while rest > 0:
            copies = min(chunk, rest)
            sums |= (sums << (copies * sizes[index])) & within
            rest -= copies
            chunk *= 2
        reached.append(sums)
    return reached


def complete(line: Line, given: Sequence[Pattern]) -> list[Pattern]:
    """``given`` clipped to what there is, then the better of both ways to pack the rest."""
    counts: list[int] = line.counts.tolist()
    kept: list[Pattern] = []
    for pattern in given:
        clipped = clip(pattern, counts)
        if clipped:
            take(clipped, counts)
            kept.append(clipped)
    rest = line.rest(np.array(counts, np.int64))
    return kept + min(best_fit_decreasing(rest), fill_bins(rest), key=len)

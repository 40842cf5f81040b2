"""Lower bounds that need no linear program: volume, and dual feasible functions (which contain Martello and Toth's L2).

A dual feasible function f maps sizes so that whatever fits in a bin still fits in one after f; the volume after f is
then a bound. f_k of Fekete and Schepers (New classes of fast lower bounds for bin packing problems, 2001) and the
rounding function f_CCM,1 of Carlier, Clautiaux and Moukrim (2007) are tried with every parameter that matters.
"""

from __future__ import annotations

import numpy as np

from packers.static.lines.line import Ints, Line

MOST_PARAMETERS = 512


def volume_bound(line: Line) -> int:
    return -(-line.volume // line.capacity) if line.volume else 0


def simple_bound(line: Line, most_parameters: int = MOST_PARAMETERS) -> int:
    """The best of all bounds in this file; 0 for no items, else at least 1."""
    if line.items == 0:
        return 0
    best = max(1, volume_bound(line))
    for parameter in _parameters(line, most_parameters):
        best = max(best, _threshold_bound(line, parameter), _rounding_bound(line, parameter))
    return best


def _parameters(line: Line, most: int) -> list[int]:
    """Only sizes up to half a bin change the outcome; of many, an even choice."""
    small = line.sizes[(line.sizes * 2 <= line.capacity) & (line.sizes > 0) & (line.counts > 0)]
    mirrored = line.capacity - line.sizes[(line.sizes * 2 > line.capacity) & (line.counts > 0)] + 1
    found = np.unique(np.concatenate([small, mirrored[mirrored * 2 <= line.capacity], np.ones(1, np.int64)]))
    if len(found) > most:
        found = found[np.linspace(0, len(found) - 1, most).astype(np.int64)]
    return [int(parameter) for parameter in found]


def _threshold_bound(line: Line, least: int) -> int:
    """Items below ``least`` vanish, those above ``capacity - least`` fill a bin (L2)."""
    large = line.sizes > line.capacity - least
    middle = ~large & (line.sizes >= least)
    alone = int(line.counts[large].sum())
    return alone + -(-_weight(line.sizes[middle], line.counts[middle]) // line.capacity)


def _rounding_bound(line: Line, step: int) -> int:
    """f_CCM,1: halves are told apart, what is smaller counts in whole steps, what is larger by its complement."""
    whole = line.capacity // step
    if whole == 0:
        return 0
    twice = 2 * line.sizes
    small = 2 * (line.sizes // step)
    large = 2 * (whole - (line.capacity - line.sizes) // step)
    mapped = np.where(twice > line.capacity, large, np.where(twice == line.capacity, whole, small))
    return -(-_weight(mapped, line.counts) // (2 * whole))


def _weight(sizes: Ints, counts: Ints) -> int:
    # In Python's integers where 64 bits could overflow.
    if len(sizes) and int(sizes.max()) * int(counts.sum()) >= 2**62:
        return sum(size * count for size, count in zip(sizes.tolist(), counts.tolist(), strict=True))
    return int((sizes * counts).sum())

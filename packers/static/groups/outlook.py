"""What a free part of a GPU is still good for: the most, of what is left, that at most four more replicas put there.

A table over a coarse grid of memory and compute. Needs are rounded up to the grid and free parts down, so that what it
promises fits (as far as there are enough of the replicas it counts on). It makes a greedy choice look ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.static.groups.kinds import Capacity, Floats, Ints


@dataclass(frozen=True, slots=True)
class Grid:
    """Steps along memory and along compute of the largest GPU."""

    steps: tuple[int, int]
    capacity: Capacity

    def up(self, needs: Ints) -> Ints:
        return np.stack([-(-needs[:, axis] * self.steps[axis] // self._each(axis)) for axis in (0, 1)], axis=1)

    def scale(self, axis: int) -> tuple[int, int]:
        """A free part rounded down is ``free * first // second``."""
        return self.steps[axis], self._each(axis)

    def _each(self, axis: int) -> int:
        return max(1, self.capacity[axis])


def outlook(grid: Grid, needs: Ints, worth: Floats) -> Floats:
    """``table[i, j]``: the most worth within i steps of memory and j of compute. ``needs``: of what is left."""
    one = np.zeros((grid.steps[0] + 1, grid.steps[1] + 1))
    cells = grid.up(needs)
    np.maximum.at(one, (cells[:, 0], cells[:, 1]), worth)
    single = one.copy()
    one = np.maximum.accumulate(np.maximum.accumulate(one, axis=0), axis=1)
    # A cell that a smaller one is worth as much as adds nothing.
    rows, columns = np.nonzero((single >= one) & (single > 0))
    choices = list(zip(rows.tolist(), columns.tolist(), single[rows, columns].tolist(), strict=True))
    two = _with_one_more(one, one, choices)
    return _with_one_more(two, two, choices)


def _with_one_more(start: Floats, base: Floats, choices: list[tuple[int, int, float]]) -> Floats:
    table = start.copy()
    rows, columns = table.shape
    for row, column, worth in choices:
        part = table[row:, column:]
        np.maximum(part, base[: rows - row, : columns - column] + worth, out=part)
    return table

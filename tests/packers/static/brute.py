"""The fewest bins, by trying everything: slow, and too simple to be wrong."""

from __future__ import annotations

from collections.abc import Sequence


def fewest_bins(needs: Sequence[tuple[int, ...]], capacity: tuple[int, ...]) -> int:
    best = len(needs)

    def place(at: int, free: list[list[int]]) -> None:
        nonlocal best
        if len(free) >= best:
            return
        if at == len(needs):
            best = len(free)
            return
        for room in {tuple(room): room for room in free}.values():
            if all(need <= left for need, left in zip(needs[at], room, strict=True)):
                _add(room, needs[at], -1)
                place(at + 1, free)
                _add(room, needs[at], 1)
        free.append([left - need for left, need in zip(capacity, needs[at], strict=True)])
        place(at + 1, free)
        free.pop()

    place(0, [])
    return best


def _add(room: list[int], need: tuple[int, ...], sign: int) -> None:
    for axis, amount in enumerate(need):
        room[axis] += sign * amount

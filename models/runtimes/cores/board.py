"""A page of memory in which all engines of a launcher say how many cores each would use just now.

The launcher makes it and every warm process maps it, so that engines have it in common by being forked. Nobody locks
it: an entry counts until a time that its engine writes with it, so what a killed one leaves there ends by itself; and
two that have taken the same seat at once see it at their next look, when one of them goes elsewhere.
"""

from __future__ import annotations

import itertools
import mmap
import os

SEATS = 128  # engines that compute at the same time; any more take one core each
_BYTES = SEATS * 8
SIZE_BYTES = 3 * _BYTES

LONGEST_S = 5.0  # that an entry may count without being renewed
LEFT_S = 1.0  # after which a seat is anybody's

_serials = itertools.count()
_joined: list[Board] = []


def make() -> int:
    """A file descriptor of a new board, which ``join`` takes. Raises OSError."""
    descriptor = os.memfd_create("roundhouse-cores")
    os.ftruncate(descriptor, SIZE_BYTES)
    return descriptor


def join(descriptor: int) -> None:
    """Have this process, and whatever it forks, use that board. Raises OSError, ValueError."""
    _joined[:] = [Board(mmap.mmap(descriptor, SIZE_BYTES))]


def joined() -> Board:
    """Without a launcher it is one that nobody else sees."""
    return _joined[-1] if _joined else Board(mmap.mmap(-1, SIZE_BYTES))


class Board:
    """By seat: until when on the monotonic clock it counts, what is wanted, and by whom."""

    def __init__(self, memory: mmap.mmap) -> None:
        view = memoryview(memory)
        self.until_s = view[:_BYTES].cast("d")
        self.wants = view[_BYTES : 2 * _BYTES].cast("q")
        self.owners = view[2 * _BYTES :].cast("q")


class Seat:
    """One engine's place, found when it is needed."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._owner = os.getpid() << 20 | next(_serials)
        self._index = -1

    def say(self, want: int, now_s: float, until_s: float) -> bool:
        """That it wants so many cores until then; False when no seat is free."""
        board = self._board
        if self._index < 0 or board.owners[self._index] != self._owner:
            free = (index for index in range(SEATS) if board.until_s[index] < now_s - LEFT_S)
            self._index = next(free, -1)
            if self._index < 0:
                return False
            board.owners[self._index] = self._owner
        board.wants[self._index] = want
        board.until_s[self._index] = until_s
        return True

    def others(self, now_s: float) -> list[int]:
        """What all others want now. A time too far ahead is no engine's."""
        board, latest_s = self._board, now_s + LONGEST_S + LEFT_S
        times = enumerate(board.until_s.tolist())
        return [board.wants[index] for index, at in times if now_s <= at < latest_s and index != self._index]

"""One rate for all who fetch from a node, shared by node: who opens more connections gets no more of it.

Start-time fair queuing over one virtual time line: each piece is given its sender's next place in line, which is as far
behind the last one as the piece is large (Goyal, Vin, Cheng: Start-time Fair Queuing, SIGCOMM 1996, section 2).
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True, slots=True)
class _Turn:
    start: float
    order: int
    count: int = field(compare=False)
    granted_s: float | None = field(default=None, compare=False)  # when it may be sent


class Queue:
    """Who may send when. Pure: time is given in seconds, sizes in bytes."""

    def __init__(self) -> None:
        self._waiting: list[_Turn] = []
        self._finish: dict[str, float] = {}
        self._virtual = 0.0
        self._free_s = float("-inf")
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, client: str, count: int) -> _Turn:
        start = max(self._virtual, self._finish.get(client, 0.0))
        self._finish[client] = start + count
        turn = _Turn(start, next(self._order), count)
        heapq.heappush(self._waiting, turn)
        return turn

    def grant(self, now: float, bytes_per_s: float) -> float | None:
        """Let all those go whose time has come; the time of the next one, None when nobody waits."""
        while self._waiting and self._free_s <= now:
            turn = heapq.heappop(self._waiting)
            self._virtual = turn.start
            self._free_s = max(self._free_s, now) + turn.count / bytes_per_s
            turn.granted_s = now
        if self._waiting:
            return self._free_s
        self._finish = {client: finish for client, finish in self._finish.items() if finish > self._virtual}
        return None


class Turns:
    """``rate``: bytes a second, 0 for no bound; asked anew each time. For any thread."""

    def __init__(self, rate: Callable[[], int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._queue = Queue()
        self._changed = threading.Condition()

    def take(self, client: str, count: int) -> None:
        """Wait until ``client`` may send ``count`` bytes more."""
        if self._rate() <= 0:
            return
        with self._changed:
            turn = self._queue.join(client, count)
            while True:
                rate = self._rate()
                waiting = len(self._queue)
                next_s = self._queue.grant(self._clock(), rate if rate > 0 else float("inf"))
                if len(self._queue) < waiting:
                    self._changed.notify_all()
                if turn.granted_s is not None:
                    return
                self._changed.wait(max(0.0, (next_s or 0.0) - self._clock()))

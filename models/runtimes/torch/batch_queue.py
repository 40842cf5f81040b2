"""Which inputs go into the next batch. Decides only: time is passed in, and somebody else computes."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model's batches, queue and patience are limited to."""

    batch_size: int = 64  # inputs of one batch
    max_delay_s: float = 0.0  # how long the first of a batch waits for company
    queue_size: int = 4096  # inputs that wait; beyond it requests are refused
    predict_timeout_s: float = 120.0  # for one batch or one piece; 0: endless
    request_timeout_s: float = 0.0  # from arrival to output; 0: endless


@dataclass(eq=False, slots=True)
class Request:
    """Inputs that belong together; ``waiting`` counts those that are in no batch yet, by key."""

    inputs: Sequence[Any]
    arrived_s: float
    waiting: Counter[Hashable] = field(default_factory=Counter)
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a request."""

    request: Request
    index: int

    @property
    def given(self) -> Any:
        return self.request.inputs[self.index]


@dataclass(slots=True)
class _Group:
    """Those of one key, who may share a batch."""

    heap: list[tuple[int, int, Item]] = field(default_factory=list)  # tag, order of arrival
    requests: deque[Request] = field(default_factory=deque)  # by arrival
    live: int = 0


class BatchQueue:
    """Fair between requests, whatever their size: start-time fair queueing (Goyal, Vin, Cheng 1996), each input of
    cost 1. The n-th input of a request gets the tag "virtual time at its arrival + n", the smallest tags go first, and
    the virtual time is the tag that was served last. So a large request fills what small ones leave.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._groups: dict[Hashable, _Group] = {}
        self._virtual = 0
        self._arrivals = 0
        self._size = 0

    def __len__(self) -> int:
        """Inputs that wait."""
        return self._size

    def has_room(self, count: int) -> bool:
        """An empty queue takes a request of any size."""
        return not self._size or self._size + count <= self._limits.queue_size

    def add(self, request: Request, keys: Sequence[Hashable]) -> None:
        """``keys``: one for each input."""
        for index, key in enumerate(keys):
            group = self._groups.setdefault(key, _Group())
            self._arrivals += 1
            heapq.heappush(group.heap, (self._virtual + index, self._arrivals, Item(request, index)))
            group.live += 1
            if not request.waiting[key]:
                group.requests.append(request)
            request.waiting[key] += 1
        self._size += len(keys)

    def withdraw(self, request: Request) -> None:
        """Nobody waits for it any more: what is not computed yet never will be."""
        request.withdrawn = True
        for key, count in request.waiting.items():
            if count:
                self._groups[key].live -= count
                self._size -= count
                self._forget_if_empty(key)
        request.waiting.clear()

    def next(self, now_s: float) -> list[Item] | float | None:
        """A batch; or when there will be one, as a time; or None when nothing waits.

        1. A group is ripe when it fills a batch, or its oldest request has waited ``max_delay_s``.
        2. Of the ripe groups the one with the smallest tag is next.
        """
        ripe: list[tuple[int, int, Hashable]] = []
        soonest_s: float | None = None
        for key, group in self._groups.items():
            ripe_s = self._ripe_s(key, group)
            if group.live >= self._limits.batch_size or ripe_s <= now_s:
                tag, arrival, _ = self._head(group)
                ripe.append((tag, arrival, key))
            else:
                soonest_s = ripe_s if soonest_s is None else min(soonest_s, ripe_s)
        return self._take(min(ripe, key=lambda head: head[:2])[2]) if ripe else soonest_s

    def _ripe_s(self, key: Hashable, group: _Group) -> float:
        while not group.requests[0].waiting[key]:
            group.requests.popleft()
        return group.requests[0].arrived_s + self._limits.max_delay_s

    def _head(self, group: _Group) -> tuple[int, int, Item]:
        while group.heap[0][2].request.withdrawn:
            heapq.heappop(group.heap)
        return group.heap[0]

    def _take(self, key: Hashable) -> list[Item]:
        group = self._groups[key]
        batch: list[Item] = []
        while len(batch) < self._limits.batch_size and group.live:
            tag, _, item = self._head(group)
            heapq.heappop(group.heap)
            self._virtual = max(self._virtual, tag)
            item.request.waiting[key] -= 1
            group.live -= 1
            batch.append(item)
        self._size -= len(batch)
        self._forget_if_empty(key)
        return batch

    def _forget_if_empty(self, key: Hashable) -> None:
        if not self._groups[key].live:
            del self._groups[key]

"""Inputs whose output comes in pieces: what their readers have not taken yet, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

PIECES_AHEAD = 8  # of its reader: a slow one holds up its own stream and nothing else


class Stream:
    """One input's pieces, between the worker that computes them and the reader that takes them."""

    def __init__(self, item: Any, changed: Callable[[], None]) -> None:
        """``changed`` is called when there is something to do: room for another piece, or a reader that has left."""
        self.item = item
        self.iterator: Iterator[Any] | None = None  # once it has begun
        self.ended = False
        self.left = False
        self._changed = changed
        self._pieces: deque[Any] = deque()
        self._problem: BaseException | None = None
        self._news = asyncio.Event()

    @property
    def wants_work(self) -> bool:
        return not self.ended and (self.left or len(self._pieces) < PIECES_AHEAD)

    # The worker's side

    def put(self, piece: Any) -> None:
        self._pieces.append(piece)
        self._news.set()

    def end(self, problem: BaseException | None = None) -> None:
        self.ended = True
        self._problem = problem
        self._news.set()

    # The reader's side

    async def take(self) -> tuple[bool, Any]:
        """(True, a piece), or (False, None) after the last one. Raises what ended it early, after its last piece."""
        while not self._pieces and not self.ended:
            self._news.clear()
            await self._news.wait()
        if self._pieces:
            piece = self._pieces.popleft()
            self._changed()
            return True, piece
        if self._problem is not None:
            raise self._problem
        return False, None

    def leave(self) -> None:
        """The reader takes no more."""
        if not self.ended:
            self.left = True
            self._changed()


class Turns:
    """All streams in the order of their arrival; at most ``most`` of them have begun at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._streams: list[Stream] = []

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: Stream) -> None:
        self._streams.append(stream)

    def due(self) -> list[Stream]:
        """Those that want one piece of work each, before the next batch has its turn. Ended ones are forgotten."""
        self._streams = [stream for stream in self._streams if not stream.ended]
        return [stream for stream in self._streams[: self._most] if stream.wants_work]

    def take_all(self) -> list[Stream]:
        streams, self._streams = self._streams, []
        return streams

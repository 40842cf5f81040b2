"""A whole gateway with engines of bytes behind it, on a loop of their own, for tests that speak over plain sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from models.store.client import connect_async
from models.store.keys import Keys
from models.store.records import ModelRoute, ReplicaRoute
from tests.gateway.plane.protocol.raw_engine import RawEngine
from tests.gateway.plane.protocol.wire import PATIENCE_S, Caller, head
from tests.gateway.world import World, chat_body

T = TypeVar("T")
FRESH = 2000
_numbers = itertools.count(1)


class House:
    """``engine`` serves the models that ``models`` names; tests drive it from their own thread."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._redis_url = redis_url
        self.folder = folder
        self.world: World = self.run(self._make())
        self.engine: RawEngine = self.run(RawEngine(folder / "engine.sock").start())
        self._ping: Caller | None = None
        self._fresh = itertools.count()
        self._models: dict[str, int] = {}

    async def _make(self) -> World:
        keys = Keys(f"house{next(_numbers)}")
        return World(connect_async(self._redis_url), self._redis_url, keys, self.folder)

    def run(self, what: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout_s)

    def soon(self, what: Callable[..., Any], *args: Any) -> None:
        """On the engines' loop."""
        self._loop.call_soon_threadsafe(what, *args)

    # -- the controller's part -------------------------------------------------------------------------------------

    def open(self, limits: Any = None, models: dict[str, int] | None = None) -> House:
        """``models``: a model's name -> how many replicas it has; all of them are the one engine."""
        self.run(self.world.start(limits))
        fresh = {f"fresh{number}": 1 for number in range(FRESH)} | {f"fresh-pair{number}": 2 for number in range(FRESH)}
        self.route(**(models or {"m": 1}) | fresh)
        return self

    def fresh(self, kind: str = "") -> str:
        """A model that nobody asked for so far: no replica of it is under suspicion. ``kind``: "-pair" has two."""
        number = next(self._fresh)
        assert number < FRESH, "there are no more"
        return f"fresh{kind}{number}"

    def route(self, **models: int) -> None:
        """Model -> replicas, beside those that there are. All of them are the one engine."""
        self._models |= models
        table = [
            ModelRoute(
                model_id=name,
                tier="gpu" if count else "disk",
                replicas=tuple(
                    ReplicaRoute(replica_id=f"{name}-{number}", endpoint=self.engine.endpoint, state="ready")
                    for number in range(count)
                ),
            )
            for name, count in self._models.items()
        ]
        self.run(self.world.route(*table))

    def close(self) -> None:
        if self._ping is not None:
            self._ping.close()
        self.run(self.world.stop())
        self.run(self.engine.stop())
        self.run(self.world.redis.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- the caller's part -----------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        assert self.world.gateway is not None
        return self.world.gateway.port

    def caller(self, **kwargs: Any) -> Caller:
        return Caller(self.port, **kwargs)

    def head(self, *headers: tuple[str, str], path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
        """With a good key and JSON's content type."""
        usual = (("authorization", f"Bearer {self.world.key}"), ("content-type", "application/json"))
        return head(*usual, *headers, path=path, method=method)

    def request(self, model: str = "m", *headers: tuple[str, str], **fields: Any) -> bytes:
        """A whole chat request."""
        body = json.dumps(chat_body(model, **fields)).encode()
        return self.head(("content-length", str(len(body))), *headers) + body

    def settled(self) -> None:
        """What was sent before has been read by the gateway: it is single-threaded, and answered this afterwards.

        Twice: what was sent and the first of these may have become known to it in one turn of its loop.
        """
        if self._ping is None:
            self._ping = self.caller()
        for _ in range(2):
            assert self._ping.ask(head(method="OPTIONS"), "OPTIONS").status in (200, 204)

    def until(self, holds: Callable[[], Any]) -> Any:
        return wait_until(holds)

    @contextmanager
    def playing(self, play: Any) -> Iterator[RawEngine]:
        """The engine answers so for a while."""
        self.engine.play = play
        try:
            yield self.engine
        finally:
            self.engine.anew()


def wait_until(holds: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """Wait for what happens in another thread or process."""
    give_up_s = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.002)
    return found

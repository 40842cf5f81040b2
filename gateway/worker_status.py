"""What each worker says of itself, to operators and to the other workers."""

from __future__ import annotations

import os

import msgspec

from gateway.admin_documents import GatewayStatus
from gateway.admin_views import Workers
from gateway.clock import Clock
from gateway.routing import Routes
from gateway.siblings import Siblings, resident_bytes

QUESTION = "status"


class WorkerStatus:
    def __init__(self, siblings: Siblings, worker: str, routes: Routes, clock: Clock) -> None:
        self._siblings = siblings
        self._worker = worker
        self._routes = routes
        self._clock = clock
        self._started_s = clock.monotonic()
        siblings.answers[QUESTION] = lambda: msgspec.msgpack.encode(self.this())

    def this(self) -> GatewayStatus:
        return GatewayStatus(
            worker=self._worker,
            number=self._siblings.index,
            pid=os.getpid(),
            uptime_s=self._clock.monotonic() - self._started_s,
            routes_version=self._routes.version,
            resident_bytes=resident_bytes(),
            problem=self._routes.neighbours.problem,
        )

    async def all(self) -> Workers:
        said = await self._siblings.ask(QUESTION)
        others = [msgspec.msgpack.decode(each, type=GatewayStatus) for each in said.values()]
        return Workers(self._siblings.count, self.this(), others)

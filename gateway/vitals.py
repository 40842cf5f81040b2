"""/health (alive), /readyz (can serve), /version and /metrics, without what the rest of the API takes to load."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec

from gateway import control_metrics, fleet_metrics, metrics
from gateway.billing import webhook_metrics
from gateway.plane.outlet import Ready
from gateway.routing import Routes
from gateway.state import State
from gateway.sync import StoreHealth
from gateway.version import version
from gateway.worker_metrics import WorkerMetrics


class Health(msgspec.Struct, kw_only=True):
    status: str = "ok"


class Readiness(msgspec.Struct, kw_only=True):
    """``status`` is ready or starting. Redis may go down later: what serves goes on serving, and this stays ready."""

    status: str
    routes_version: int
    models: int
    redis: str  # up | down


class Version(msgspec.Struct, kw_only=True):
    version: str


DOCUMENTS = (Health, Readiness, Version)


class Vitals:
    """Open to all: they tell nothing of keys or prompts. ``figures``: those of all workers."""

    def __init__(
        self,
        routes: Routes,
        store: StoreHealth,
        figures: WorkerMetrics,
        state: State,
        now_unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._routes = routes
        self._store = store
        self._figures = figures
        self._state = state
        self._now_unix_s = now_unix_s

    @property
    def pages(self) -> dict[str, Callable[[], Awaitable[Ready]]]:
        return {"/health": self.health, "/readyz": self.readyz, "/version": self.version, "/metrics": self.metrics}

    async def health(self) -> Ready:
        return Ready(200, msgspec.json.encode(Health()))

    async def readyz(self) -> Ready:
        ready = self._routes.loaded and self._store.known
        state = Readiness(
            status="ready" if ready else "starting",
            routes_version=self._routes.version,
            models=len(self._routes.models),
            redis="up" if self._store.up else "down",
        )
        return Ready(200 if ready else 503, msgspec.json.encode(state))

    async def version(self) -> Ready:
        return Ready(200, msgspec.json.encode(Version(version=version())))

    async def metrics(self) -> Ready:
        text = await self._figures.together() + await self._of_the_controller()
        return Ready(200, text, f"content-type: {metrics.CONTENT_TYPE}\r\n".encode())

    async def _of_the_controller(self) -> bytes:
        """Nothing while Redis is away: what was known is no answer to what is."""
        if not self._store.up:
            return b""
        meters = await self._state.meters_if_any()
        fleet, catalog = await self._state.fleet_and_catalog_if_any()
        webhooks = webhook_metrics.render(await self._state.webhooks_if_any())
        return webhooks + control_metrics.render(meters) + fleet_metrics.render(fleet, catalog, self._now_unix_s())

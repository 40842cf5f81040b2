"""/health (alive), /readyz (can serve), /version, /metrics. Open to all: they tell nothing of keys or prompts."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response

from gateway import control_metrics, metrics
from gateway.documents import answer, shape
from gateway.metrics import Metrics
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


def ops_router(
    routes: Routes, store: StoreHealth, registry: Metrics, state: State, figures: WorkerMetrics | None = None
) -> APIRouter:
    """``figures``: those of all workers, where there are several."""
    router = APIRouter(tags=["operations"])

    @router.get("/health", responses=shape(Health), operation_id="health")
    async def health() -> Response:
        """The process is alive."""
        return answer(Health())

    not_ready = shape(Readiness, 503, "Not yet able to serve")

    @router.get("/readyz", responses=shape(Readiness) | not_ready, operation_id="readyz")
    async def readyz() -> Response:
        """The process knows its models and has reached Redis."""
        ready = routes.loaded and store.known
        state = Readiness(
            status="ready" if ready else "starting",
            routes_version=routes.version,
            models=len(routes.models),
            redis="up" if store.up else "down",
        )
        return answer(state, 200 if ready else 503)

    @router.get("/version", responses=shape(Version), operation_id="version")
    async def show_version() -> Response:
        return answer(Version(version=version()))

    @router.get("/metrics", operation_id="metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Prometheus text: the figures of all workers together, and the controller's."""
        meters = await state.meters_if_any() if store.up else None
        own = await figures.together() if figures is not None else registry.render()
        text = own + control_metrics.render(meters)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    return router

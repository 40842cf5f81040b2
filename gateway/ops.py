"""The pages of ``gateway.vitals`` as FastAPI routes: for the API's document, and for methods other than GET."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from gateway.documents import shape
from gateway.plane.outlet import Ready
from gateway.vitals import Health, Readiness, Version, Vitals


def ops_router(vitals: Vitals) -> APIRouter:
    router = APIRouter(tags=["operations"])
    not_ready = shape(Readiness, 503, "Not yet able to serve")

    @router.get("/health", responses=shape(Health), operation_id="health")
    async def health() -> Response:
        """The process is alive."""
        return _response(await vitals.health())

    @router.get("/readyz", responses=shape(Readiness) | not_ready, operation_id="readyz")
    async def readyz() -> Response:
        """The process knows its models and has reached Redis."""
        return _response(await vitals.readyz())

    @router.get("/version", responses=shape(Version), operation_id="version")
    async def show_version() -> Response:
        return _response(await vitals.version())

    @router.get("/metrics", operation_id="metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Prometheus text: the figures of all workers together, and the controller's."""
        return _response(await vitals.metrics())

    return router


def _response(ready: Ready) -> Response:
    name, _, value = ready.head.decode().strip().partition(": ")
    return Response(ready.body, status_code=ready.status, headers={name: value})

"""All that is no inference, as a FastAPI application: models, vitals, the admin API, their documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.requests import Request

from gateway import admin, control_errors, documents, models_api, ops, vitals
from gateway.auth import ADMIN_WRITE, INFERENCE, Authenticator
from gateway.endpoints import ENDPOINTS
from gateway.orders import Orders
from gateway.version import version

if TYPE_CHECKING:
    from gateway.app import ControlParts


def create_control(given: ControlParts) -> FastAPI:
    deps = given.deps
    control = FastAPI(title="Roundhouse", version=version(), redoc_url=None, redirect_slashes=False)
    control_errors.install(control)
    control.include_router(ops.ops_router(given.vitals))
    control.include_router(models_api.models_router(given.routes, _requires(given.authenticator, INFERENCE)))
    parts = admin.AdminParts(
        state=given.state,
        orders=Orders(deps.redis, deps.keys, deps.clock.monotonic),
        routes=given.routes,
        clock=deps.clock,
        workers=given.workers,
        key_client=deps.blocking_redis,
        keys=deps.keys,
        home=deps.home,
        leaving=given.leaving,
    )
    control.include_router(admin.admin_router(parts, _requires(given.authenticator, ADMIN_WRITE)))
    documents.publish(control, (*vitals.DOCUMENTS, *models_api.DOCUMENTS, *admin.DOCUMENTS), ENDPOINTS)
    return control


def _requires(authenticator: Authenticator, scope: str) -> Callable[[Request], Awaitable[None]]:
    async def require(request: Request) -> None:
        await authenticator.authenticate(request.headers.raw, scope)

    return require

"""All that is no inference, as a FastAPI application: models, vitals, the admin API, their documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from gateway import admin, control_errors, documents, models_api, ops, usage_api, vitals
from gateway.admin_doors import admin_door, caller_door
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
    caller = caller_door(given.authenticator, given.accounts, given.guard)
    control.include_router(models_api.models_router(given.routes, caller))
    usage = usage_api.reading(deps.redis, deps.keys, deps.clock)
    control.include_router(usage_api.own_usage_router(usage, caller))
    parts = admin.AdminParts(
        state=given.state,
        orders=Orders(deps.redis, deps.keys, deps.clock.monotonic, deps.clock.unix),
        routes=given.routes,
        clock=deps.clock,
        workers=given.workers,
        key_client=deps.blocking_redis,
        keys=deps.keys,
        home=deps.home,
        leaving=given.leaving,
        usage=usage,
    )
    control.include_router(admin.admin_router(parts, admin_door(given.authenticator, given.guard)))
    documents.publish(
        control, (*vitals.DOCUMENTS, *models_api.DOCUMENTS, *usage_api.DOCUMENTS, *admin.DOCUMENTS), ENDPOINTS
    )
    return control

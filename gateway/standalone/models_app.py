"""/v1/models as the service shows it. ``build`` loads FastAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import lean
from gateway.abuse.guard import Guard
from gateway.accounts import Accounts
from gateway.routing import Routes
from gateway.standalone.access import Access

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def build(routes: Routes, access: Access, accounts: Accounts, guard: Guard) -> ASGIApp:
    with lean.without(*lean.UNUSED):
        from fastapi import FastAPI

        from gateway import control_errors
        from gateway.admin_doors import caller_door
        from gateway.models_api import models_router

    app = FastAPI(openapi_url=None, redirect_slashes=False)
    control_errors.install(app)
    app.include_router(models_router(routes, caller_door(access, accounts, guard)))
    return app

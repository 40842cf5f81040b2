"""/v1/models as the service shows it. ``build`` loads FastAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import lean
from gateway.routing import Routes

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def build(routes: Routes) -> ASGIApp:
    """Whoever calls it has checked the caller already."""
    with lean.without(*lean.UNUSED):
        from fastapi import FastAPI

        from gateway import control_errors
        from gateway.models_api import models_router

    app = FastAPI(openapi_url=None, redirect_slashes=False)
    control_errors.install(app)
    app.include_router(models_router(routes, lambda: None))
    return app

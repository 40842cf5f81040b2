"""Who may do what in the admin API: looking asks for admin:read, whatever changes something for admin:write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi.routing import APIRoute
from starlette.requests import Request

from gateway.abuse.guard import Guard
from gateway.accounts import Account, Accounts
from gateway.actor import ACTOR
from gateway.auth import ADMIN_READ, ADMIN_WRITE, INFERENCE, Doorman
from gateway.control_errors import exchange_of
from models.store.audit import Who
from models.store.records import KeyRecord

LOOKING = ("GET", "HEAD", "OPTIONS")
DRY_RUN = "dry_run"
YES = ("true", "1", "on", "yes", "t", "y")  # as pydantic reads it


def admin_door(doorman: Doorman, guard: Guard) -> Callable[[Request], Awaitable[None]]:
    async def admit(request: Request) -> None:
        """Raises Unauthorized, Forbidden, StoreUnavailable."""
        scope = ADMIN_READ if _only_looks(request) else ADMIN_WRITE
        key = await doorman.authenticate(request.headers.raw, scope)
        recognised(request, key, guard)
        exchange = exchange_of(request)
        ACTOR.set(Who(key.key_id, exchange.address, exchange.request_id))

    return admit


def caller_door(doorman: Doorman, accounts: Accounts, guard: Guard) -> Callable[[Request], Awaitable[Account]]:
    """Of callers of models, for what they may know."""

    async def admit(request: Request) -> Account:
        """Raises Unauthorized, Forbidden, StoreUnavailable."""
        key = await doorman.authenticate(request.headers.raw, INFERENCE)
        recognised(request, key, guard)
        return accounts.of(key)

    return admit


def recognised(request: Request, key: KeyRecord, guard: Guard) -> None:
    """Notes whose request it is. Raises KeyBlocked, CoolingDown."""
    exchange = exchange_of(request)
    exchange.key_id, exchange.tenant, exchange.project = key.key_id, key.tenant, key.project
    guard.check_key(key.key_id)


def _only_looks(request: Request) -> bool:
    """A dry run is one where the path knows of such: to another its word means nothing."""
    if request.method in LOOKING:
        return True
    route = request.scope.get("route")
    knows = isinstance(route, APIRoute) and any(each.alias == DRY_RUN for each in route.dependant.query_params)
    return knows and request.query_params.get(DRY_RUN, "").lower() in YES

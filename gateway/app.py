"""Wiring: from what a worker is given to the ASGI application. Nothing is decided here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from starlette.requests import Request

from gateway import admin, control_errors, documents, models_api, ops
from gateway.admission import Admission, HoldQueue
from gateway.aiohttp_transport import AiohttpTransport
from gateway.auth import ADMIN, INFERENCE, Authenticator, RedisKeyStore
from gateway.clock import Clock
from gateway.demand import Demand
from gateway.ending import end
from gateway.endpoints import ENDPOINTS, Paths, by_path
from gateway.exchange import Exchange
from gateway.front import Front
from gateway.inference import Inference, Limits
from gateway.logs import log_exchange
from gateway.logs_api import Leaving
from gateway.metrics import Metrics
from gateway.orders import Orders
from gateway.relay import Relay
from gateway.routing import Routes
from gateway.state import State
from gateway.sync import DemandPublisher, RouteWatcher, StoreHealth
from gateway.transport import Transport
from gateway.version import version
from models.home import Home
from models.store.keys import Keys


def new_worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(slots=True, kw_only=True)
class Deps:
    """What a worker is given. ``blocking_redis`` is used on threads, for rare calls."""

    redis: Redis
    blocking_redis: BlockingRedis
    keys: Keys = field(default_factory=Keys)
    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=Clock)
    transport: Transport = field(default_factory=AiohttpTransport)
    worker: str = field(default_factory=new_worker_id)
    home: Home = field(default_factory=Home.find)


def create_app(deps: Deps) -> Front:
    routes, health, news, leaving = Routes(), StoreHealth(), asyncio.Event(), Leaving()
    demand = Demand(on_change=news.set)
    admission = Admission(routes, demand, HoldQueue(deps.limits.hold_limit), deps.clock)
    authenticator = Authenticator(RedisKeyStore(deps.redis, deps.keys), deps.clock)
    metrics = Metrics(demand.totals, lambda: routes.version, lambda: health.up)

    async def on_routes() -> None:
        admission.routes_changed()
        await deps.transport.retain(routes.endpoints)

    watcher = RouteWatcher(deps.redis, deps.keys, routes, health, on_routes, authenticator.invalidate)
    publisher = DemandPublisher(deps.redis, deps.keys, deps.worker, demand, routes, deps.clock, news)
    control = FastAPI(
        title="Roundhouse",
        version=version(),
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(deps, watcher, publisher),
    )
    control_errors.install(control)
    state = State(deps.redis, deps.keys)
    control.include_router(ops.ops_router(routes, health, metrics, state))
    control.include_router(models_api.models_router(routes, _requires(authenticator, INFERENCE)))
    parts = admin.AdminParts(
        state=state,
        orders=Orders(deps.redis, deps.keys, deps.clock.monotonic),
        routes=routes,
        clock=deps.clock,
        worker=deps.worker,
        started_s=deps.clock.monotonic(),
        key_client=deps.blocking_redis,
        keys=deps.keys,
        home=deps.home,
        leaving=leaving,
    )
    control.include_router(admin.admin_router(parts, _requires(authenticator, ADMIN)))
    documents.publish(control, (*ops.DOCUMENTS, *models_api.DOCUMENTS, *admin.DOCUMENTS), ENDPOINTS)

    def observe(exchange: Exchange, duration_s: float) -> None:
        metrics.observe(exchange, duration_s)
        log_exchange(exchange, duration_s)

    inference = Inference(authenticator, Relay(admission, deps.transport), deps.limits)
    return Front(Paths(by_path(ENDPOINTS)), inference, control, observe, deps.clock, leaving)


def _requires(authenticator: Authenticator, scope: str) -> Callable[[Request], Awaitable[None]]:
    async def require(request: Request) -> None:
        await authenticator.authenticate(request.headers.raw, scope)

    return require


def _lifespan(
    deps: Deps, watcher: RouteWatcher, publisher: DemandPublisher
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Redis may not be there yet: the tasks keep trying, and the port answers from the first moment.
        tasks = [asyncio.create_task(watcher.run()), asyncio.create_task(publisher.run())]
        try:
            yield
        finally:
            await end(tasks)
            await publisher.withdraw()
            await deps.transport.close()
            await deps.redis.aclose()
            deps.blocking_redis.close()

    return lifespan

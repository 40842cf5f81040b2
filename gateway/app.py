"""Wiring: from what a worker is given to its data plane. Nothing is decided here."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from starlette.requests import Request

from gateway import admin, control_errors, documents, models_api, ops
from gateway.access_log import AccessLog
from gateway.admit import Admission
from gateway.auth import ADMIN, INFERENCE, Authenticator
from gateway.clock import Clock
from gateway.demand import Demand
from gateway.ending import end
from gateway.endpoints import ENDPOINTS, Paths, by_path
from gateway.exchange import Exchange
from gateway.greed import Caps
from gateway.health import Health
from gateway.leaving import Leaving
from gateway.metrics import Metrics
from gateway.orders import Orders
from gateway.plane.plane import Plane
from gateway.plane.upstream import Upstreams
from gateway.redis_keys import RedisKeyStore
from gateway.routing import Routes
from gateway.settings import Limits
from gateway.siblings import Siblings
from gateway.state import State
from gateway.sync import DemandPublisher, RouteWatcher, StoreHealth
from gateway.tracing import Tracer, tracer_from
from gateway.version import version
from gateway.worker_metrics import WorkerMetrics
from models.home import Home
from models.store.keys import Keys


def new_worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(slots=True, kw_only=True)
class Deps:
    """What a worker is given. ``blocking_redis`` is used on threads, for rare calls.

    ``access_log``: all, errors or off. ``siblings``: the other workers of the same port.
    """

    redis: Redis
    blocking_redis: BlockingRedis
    keys: Keys = field(default_factory=Keys)
    limits: Limits = field(default_factory=Limits)
    caps: Caps = field(default_factory=Caps)
    clock: Clock = field(default_factory=Clock)
    worker: str = field(default_factory=new_worker_id)
    siblings: Siblings = field(default_factory=Siblings)
    home: Home = field(default_factory=Home.find)
    tracer: Tracer = field(default_factory=tracer_from)
    access_log: str = "all"


def create_app(deps: Deps) -> Plane:
    """The data plane of one worker, with the control application beside it."""
    routes, health, news, leaving = Routes(), StoreHealth(), asyncio.Event(), Leaving()
    demand = Demand(on_change=news.set)
    admission = Admission(routes, demand, deps.clock, deps.limits.hold_limit, workers=deps.siblings.count)
    authenticator = Authenticator(RedisKeyStore(deps.redis, deps.keys), deps.clock)
    metrics = Metrics(demand.totals, lambda: routes.version, lambda: health.up)
    upstreams = Upstreams()
    access_log = AccessLog(deps.access_log)

    async def on_routes() -> None:
        admission.routes_changed()
        upstreams.retain(routes.endpoints)

    watcher = RouteWatcher(deps.redis, deps.keys, routes, health, on_routes, authenticator.invalidate)
    publisher = DemandPublisher(deps.redis, deps.keys, deps.worker, demand, routes, deps.clock, news)
    control = _control(deps, routes, health, metrics, authenticator, leaving)

    def observe(exchange: Exchange, duration_s: float) -> None:
        metrics.observe(exchange, duration_s)
        access_log.observe(exchange, duration_s)
        deps.tracer.observe(exchange, duration_s)

    plane = Plane(
        paths=Paths(by_path(ENDPOINTS)),
        authenticator=authenticator,
        admission=admission,
        upstreams=upstreams,
        control=control,
        observer=observe,
        tracer=deps.tracer,
        limits=deps.limits,
        caps=deps.caps,
        clock=deps.clock,
        leaving=leaving,
    )
    plane.health = Health(admission, upstreams.probe, plane.ejected)
    plane.lifespan = _lifespan(deps, watcher, publisher, plane.health, access_log)
    return plane


def _control(
    deps: Deps, routes: Routes, health: StoreHealth, metrics: Metrics, authenticator: Authenticator, leaving: Leaving
) -> FastAPI:
    """All that is no inference: models, health, metrics, the admin API, the documents."""
    control = FastAPI(title="Roundhouse", version=version(), redoc_url=None, redirect_slashes=False)
    control_errors.install(control)
    state = State(deps.redis, deps.keys)
    figures = WorkerMetrics(deps.siblings, deps.worker, metrics.render)
    control.include_router(ops.ops_router(routes, health, metrics, state, figures))
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
        siblings=deps.siblings,
    )
    control.include_router(admin.admin_router(parts, _requires(authenticator, ADMIN)))
    documents.publish(control, (*ops.DOCUMENTS, *models_api.DOCUMENTS, *admin.DOCUMENTS), ENDPOINTS)
    return control


def _requires(authenticator: Authenticator, scope: str) -> Callable[[Request], Awaitable[None]]:
    async def require(request: Request) -> None:
        await authenticator.authenticate(request.headers.raw, scope)

    return require


def _lifespan(
    deps: Deps, watcher: RouteWatcher, publisher: DemandPublisher, health: Health, access_log: AccessLog
) -> Callable[[], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        # Redis may not be there yet: the tasks keep trying, and the port answers from the first moment.
        tasks = [asyncio.create_task(watcher.run()), asyncio.create_task(publisher.run())]
        access_log.start()
        deps.tracer.start()
        # In the place of a worker that died callers wait already, and not for being told that no model is known.
        await watcher.first_look()
        try:
            yield
        finally:
            await end(tasks)
            await health.close()
            await publisher.withdraw()
            await deps.siblings.close()
            deps.tracer.stop()
            access_log.stop()
            await deps.redis.aclose()
            deps.blocking_redis.close()

    return lifespan

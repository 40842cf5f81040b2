"""Wiring: from what a worker is given to its data plane. Nothing is decided here."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from gateway import kept, lean
from gateway.abuse.guard import Guard
from gateway.abuse.notices import Notices
from gateway.access_log import AccessLog
from gateway.accounts import Accounts
from gateway.admit import Admission
from gateway.auth import Authenticator
from gateway.clock import Clock
from gateway.demand import Demand
from gateway.ending import end
from gateway.endpoints import ENDPOINTS, Paths, by_path
from gateway.exchange import Exchange
from gateway.greed import Caps
from gateway.health import Health
from gateway.later import Later
from gateway.leaving import Leaving
from gateway.limits.limiter import Limiter
from gateway.metering.recorder import Recorder
from gateway.metrics import Metrics
from gateway.neighbours import Neighbours
from gateway.plane.plane import Plane
from gateway.plane.upstream import Upstreams
from gateway.redis_keys import RedisKeyStore
from gateway.routing import Routes
from gateway.settings import Limits
from gateway.siblings import Siblings
from gateway.state import State
from gateway.sync import DemandPublisher, RouteWatcher, StoreHealth
from gateway.tenancy_reader import TenancyReader
from gateway.tenant_book import TenantBook
from gateway.tracing import Tracer, tracer_from
from gateway.vitals import Vitals
from gateway.worker_metrics import WorkerMetrics
from gateway.worker_status import WorkerStatus
from models.home import Home
from models.store.keys import Keys

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def new_worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(slots=True, kw_only=True)
class Deps:
    """What a worker is given. ``blocking_redis`` is used on threads, for rare calls.

    ``access_log``: all, errors or off. ``siblings``: the other workers of the same port. ``keeps``: whether responses,
    files and batches are kept for callers.
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
    keeps: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlParts:
    """What all that is no inference is made of (``gateway.control``)."""

    deps: Deps
    authenticator: Authenticator
    accounts: Accounts
    guard: Guard
    leaving: Leaving
    routes: Routes
    state: State
    vitals: Vitals
    workers: WorkerStatus


def create_app(deps: Deps) -> Plane:
    """The data plane of one worker, with the control application beside it."""
    routes, health, news, leaving = Routes(Neighbours.of(deps.home)), StoreHealth(), asyncio.Event(), Leaving()
    demand = Demand(on_change=news.set)
    admission = Admission(routes, demand, deps.clock, deps.limits.hold_limit, workers=deps.siblings.count)
    accounts = Accounts(TenantBook(awaited=True))
    tenancy = TenancyReader(deps.redis, deps.keys, accounts.book)
    authenticator = Authenticator(RedisKeyStore(deps.redis, deps.keys, tenancy), deps.clock)
    guard = Guard(accounts, deps.clock)
    metrics = Metrics(demand.totals, lambda: routes.version, lambda: health.up, guard.turned_away)
    upstreams = Upstreams()
    access_log = AccessLog(deps.access_log)

    async def on_routes() -> None:
        admission.routes_changed()
        upstreams.extra_headers = routes.neighbours.headers
        upstreams.retain(routes.endpoints)

    forget, steady = authenticator.invalidate, deps.clock.steady
    watcher = RouteWatcher(deps.redis, deps.keys, routes, health, on_routes, forget, tenancy, now_unix_s=steady)
    publisher = DemandPublisher(deps.redis, deps.keys, deps.worker, demand, routes, deps.clock, news)
    state, figures = State(deps.redis, deps.keys), WorkerMetrics(deps.siblings, deps.worker, metrics.render)
    parts = ControlParts(
        deps=deps,
        authenticator=authenticator,
        accounts=accounts,
        guard=guard,
        leaving=leaving,
        routes=routes,
        state=state,
        vitals=Vitals(routes, health, figures, state),
        workers=WorkerStatus(deps.siblings, deps.worker, routes, deps.clock),
    )

    def observe(exchange: Exchange, duration_s: float) -> None:
        metrics.observe(exchange, duration_s)
        access_log.observe(exchange, duration_s)
        deps.tracer.observe(exchange, duration_s)

    control = Later(lambda: _control(parts), parts.vitals.pages)
    plane = Plane(
        paths=Paths(by_path(ENDPOINTS)),
        authenticator=authenticator,
        guard=guard,
        admission=admission,
        upstreams=upstreams,
        control=control,
        observer=observe,
        tracer=deps.tracer,
        limits=deps.limits,
        caps=deps.caps,
        clock=deps.clock,
        leaving=leaving,
        accounts=accounts,
    )
    plane.health = Health(admission, upstreams.probe, plane.ejected)
    plane.limiter = Limiter(deps.redis, deps.keys, deps.clock, deps.worker, lambda: deps.siblings.count)
    authenticator.on_silence = plane.limiter.store_is_silent
    plane.lifespan = _lifespan(deps, plane, watcher, publisher, access_log)
    if deps.keeps:
        keep = kept.KeptParts(
            redis=deps.redis,
            keys=deps.keys,
            home=deps.home,
            worker=deps.worker,
            find=routes.find,
            limits=kept.KeptLimits.within(deps.limits),
        )
        kept.mount(plane, control, keep)
    return plane


def _control(parts: ControlParts) -> ASGIApp:
    """On a thread, when it is first asked for: FastAPI is a third of a worker's start and a fifth of its memory."""
    with lean.without(*lean.UNUSED):
        lean.load_fastapi()
        from gateway.control import create_control

        return create_control(parts)


def _lifespan(
    deps: Deps, plane: Plane, watcher: RouteWatcher, publisher: DemandPublisher, access_log: AccessLog
) -> Callable[[], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        limiter, health = plane.limiter, plane.health
        assert limiter is not None
        assert health is not None
        plane.recorder = recorder = Recorder(deps.home, deps.worker, deps.clock)
        limiter.follow(lambda: recorder.written)
        notices = Notices(deps.redis, deps.keys, deps.clock)
        plane.guard.on_key_cooled = notices.key_cooled
        # Redis may not be there yet: the tasks keep trying, and the port answers from the first moment.
        tasks = [asyncio.create_task(work()) for work in (watcher.run, publisher.run, limiter.run)]
        access_log.start()
        deps.tracer.start()
        # In the place of a worker that died callers wait already, and not for being told that no model is known.
        await watcher.first_look()
        try:
            yield
        finally:
            await end(tasks)
            await health.close()
            await limiter.close()
            await notices.close()
            await publisher.withdraw()
            await deps.siblings.close()
            recorder.close()
            deps.tracer.stop()
            access_log.stop()
            await deps.redis.aclose()
            deps.blocking_redis.close()

    return lifespan

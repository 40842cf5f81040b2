"""Wiring of a worker that stands on its own: as ``gateway.app``, with files in place of Redis and the controller."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from gateway.abuse.guard import Guard
from gateway.access_log import AccessLog
from gateway.accounts import Accounts
from gateway.admit import Admission
from gateway.clock import Clock
from gateway.demand import Demand
from gateway.ending import end
from gateway.endpoints import ENDPOINTS, Paths, by_path
from gateway.exchange import Exchange
from gateway.greed import Caps
from gateway.health import Health
from gateway.metrics import Metrics
from gateway.plane.plane import Plane
from gateway.plane.upstream import Upstreams
from gateway.routing import Routes
from gateway.settings import Limits
from gateway.siblings import Siblings
from gateway.standalone.access import Access, records_of
from gateway.standalone.control import Control
from gateway.standalone.reading import read_keys, read_table
from gateway.standalone.reload import Edited, Reload
from gateway.standalone.table import Table
from gateway.standalone.watching import WatchedFile
from gateway.tenant_book import TenantBook
from gateway.tracing import Tracer, tracer_from
from gateway.worker_metrics import WorkerMetrics
from models.store.records import KeyRecord, RouteTable
from models.store.tenancy import CoolDown, HouseRecord

# Nobody is refused for failing: there is no store to be spared, and without keys all callers would be one.
HOUSE = HouseRecord(cool_down=CoolDown(failures=0))

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Deps:
    """What a worker is given. ``keys`` None: everybody may call. ``environment`` holds the keys for upstreams."""

    routes: Path
    keys: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = field(default_factory=Clock)
    worker: str = field(default_factory=lambda: f"worker-{os.getpid()}")
    siblings: Siblings = field(default_factory=Siblings)
    tracer: Tracer = field(default_factory=tracer_from)
    access_log: str = "all"


@dataclass(slots=True)
class Traffic:
    """Where requests go. ``take`` puts another table in force, in one step: no request sees a part of it."""

    bounds: tuple[Limits, Caps]
    routes: Routes
    admission: Admission
    upstreams: Upstreams

    def take(self, table: Table) -> None:
        self.routes.offer(RouteTable(version=self.routes.version + 1, models=table.models))
        self.upstreams.extra_headers = dict(table.headers)
        self.upstreams.retain(self.routes.endpoints)
        self.admission.routes_changed()
        log.info("routes", version=self.routes.version, models=len(table.models))
        if (table.limits, table.caps) != self.bounds:
            log.warning("limits have changed; they are taken at the next start of the gateway")


def create(deps: Deps) -> tuple[Plane, Reload]:
    """The data plane of one worker, and what takes up edits. Raises ConfigError."""
    memory = deps.siblings.folder
    table_file = WatchedFile(deps.routes, lambda path: read_table(path, deps.environment), memory)
    table, wrong_table = table_file.read_first()
    routes, demand, upstreams = Routes(), Demand(), Upstreams()
    admission = Admission(routes, demand, deps.clock, table.limits.hold_limit, workers=deps.siblings.count)
    traffic = Traffic((table.limits, table.caps), routes, admission, upstreams)
    traffic.take(table)
    edited: list[Edited[Any]] = [Edited(table_file, traffic.take, wrong_table)]
    access = Access(None)
    if deps.keys is not None:
        keys_file = WatchedFile(deps.keys, _read_records, memory)
        records, wrong_keys = keys_file.read_first()
        access.replace(records)
        edited.append(Edited(keys_file, access.replace, wrong_keys))
    reload = Reload(tuple(edited))

    access_log, accounts = AccessLog(deps.access_log), Accounts(TenantBook(house=HOUSE))
    guard = Guard(accounts, deps.clock)
    metrics = Metrics(demand.totals, lambda: routes.version, lambda: True, guard.turned_away)
    figures = WorkerMetrics(deps.siblings, deps.worker, metrics.render)
    plane = Plane(
        paths=Paths(by_path(ENDPOINTS)),
        authenticator=access,
        guard=guard,
        admission=admission,
        upstreams=upstreams,
        control=Control(routes, access, accounts, guard, figures.together, lambda: reload.rejected),
        observer=_observer(metrics, access_log, deps.tracer),
        tracer=deps.tracer,
        limits=table.limits,
        caps=table.caps,
        clock=deps.clock,
        accounts=accounts,
    )
    plane.health = health = Health(admission, upstreams.probe, plane.ejected)
    plane.lifespan = _lifespan(deps, reload, health, access_log)
    return plane, reload


def _observer(metrics: Metrics, access_log: AccessLog, tracer: Tracer) -> Callable[[Exchange, float], None]:
    def observe(exchange: Exchange, duration_s: float) -> None:
        metrics.observe(exchange, duration_s)
        access_log.observe(exchange, duration_s)
        tracer.observe(exchange, duration_s)

    return observe


def _read_records(path: Path) -> dict[str, KeyRecord]:
    return records_of(read_keys(path))


def _lifespan(
    deps: Deps, reload: Reload, health: Health, access_log: AccessLog
) -> Callable[[], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        watching = asyncio.create_task(reload.run())
        access_log.start()
        deps.tracer.start()
        try:
            yield
        finally:
            await end([watching])
            await health.close()
            await deps.siblings.close()
            deps.tracer.stop()
            access_log.stop()

    return lifespan

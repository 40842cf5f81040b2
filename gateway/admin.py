"""The admin API under /admin/v1: what the controller knows, and orders to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import redis
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from gateway import admin_documents as shapes
from gateway import admin_views as views
from gateway import (
    decisions_api,
    defrag_api,
    logs_api,
    nodes_api,
    packing_api,
    tenancy_documents,
    usage_api,
    warm_api,
    weights_api,
    why_api,
)
from gateway.audit_api import add_audit
from gateway.clock import Clock
from gateway.decision_stream import DecisionStream
from gateway.documents import answer, shape
from gateway.errors import ModelNotFound
from gateway.house_api import house_router
from gateway.keys_api import keys_router
from gateway.leaving import Leaving
from gateway.orders import Orders
from gateway.routing import Routes
from gateway.state import State
from gateway.tenancy_calls import TenancyCalls
from gateway.tenants_api import tenants_router
from gateway.usage_reading import Reading
from gateway.version import version
from gateway.worker_status import WorkerStatus
from models.home import Home
from models.store.keys import Keys
from models.store.records import CommandReply

PREFIX = "/admin/v1"
ACCEPT_TIMEOUT_S = 10.0

DOCUMENTS = (
    *shapes.DOCUMENTS,
    *packing_api.DOCUMENTS,
    *decisions_api.DOCUMENTS,
    *defrag_api.DOCUMENTS,
    *why_api.DOCUMENTS,
    *logs_api.DOCUMENTS,
    *nodes_api.DOCUMENTS,
    *warm_api.DOCUMENTS,
    *weights_api.DOCUMENTS,
    *tenancy_documents.DOCUMENTS,
    CommandReply,
)
Verb = Literal["wake", "sleep", "stop"]


@dataclass(frozen=True, slots=True)
class AdminParts:
    state: State
    orders: Orders
    routes: Routes
    clock: Clock
    workers: WorkerStatus
    key_client: redis.Redis
    keys: Keys
    home: Home
    leaving: Leaving
    usage: Reading


def admin_router(parts: AdminParts, require_admin: Callable[..., object]) -> APIRouter:
    router = APIRouter(prefix=PREFIX, tags=["admin"], dependencies=[Depends(require_admin)])
    _add_fleet(router, parts)
    _add_models(router, parts)
    weights_api.add_weights(router, parts.orders)
    warm_api.add_warm(router, parts.state, parts.orders)
    _add_orders(router, parts)
    packing_api.add_plan(router, parts.state, parts.orders)
    packing_api.add_cordon(router, parts.orders)
    packing_api.add_recording(router, parts.state, parts.orders)
    nodes_api.add_nodes(router, parts.state, parts.orders)
    defrag_api.add_defrag(router, parts.state, parts.orders)
    stream = DecisionStream(parts.orders.redis, parts.keys)
    decisions_api.add_decisions(router, stream, parts.leaving)
    why_api.add_why(router, parts.state, parts.orders, stream, parts.clock)
    logs_api.add_logs(router, parts.state, parts.home, parts.leaving)
    calls = TenancyCalls(parts.key_client, parts.keys, parts.clock)
    router.include_router(keys_router(calls))
    router.include_router(tenants_router(calls))
    router.include_router(house_router(calls))
    add_audit(router, calls)
    usage_api.add_usage(router, parts.usage)
    usage_api.add_invoices(router, parts.usage)
    return router


def _add_fleet(router: APIRouter, parts: AdminParts) -> None:
    state = parts.state

    @router.get("/status", responses=shape(shapes.Status), operation_id="status")
    async def status() -> Response:
        """Everything at a glance; also answers while no controller runs."""
        fleet, catalog, demand = await state.fleet_if_any(), await state.catalog(), await state.demand()
        workers, usage = await parts.workers.all(), await parts.usage.problems()
        return answer(views.status(version(), workers, fleet, len(catalog), demand, parts.clock.unix(), usage))

    @router.get("/gpus", responses=shape(shapes.GpuList), operation_id="list_gpus")
    async def gpus() -> Response:
        return answer(views.gpu_list(await state.fleet()))

    @router.get("/replicas", responses=shape(shapes.ReplicaList), operation_id="list_replicas")
    async def replicas() -> Response:
        return answer(views.replica_list(await state.fleet()))

    @router.get("/ledger", responses=shape(shapes.Ledger), operation_id="ledger")
    async def ledger() -> Response:
        """Which replica has reserved which bytes of which GPU, and of each node's host RAM."""
        return answer(views.ledger(await state.fleet()))


def _add_models(router: APIRouter, parts: AdminParts) -> None:
    state = parts.state

    @router.get("/models", responses=shape(shapes.ModelViewList), operation_id="list_catalog")
    async def models() -> Response:
        """The catalog, with what goes on now."""
        return answer(views.model_list(await state.catalog(), await state.fleet_if_any(), await state.demand()))

    @router.get("/models/{model_id:path}", responses=shape(shapes.ModelDetail), operation_id="show_model")
    async def model(model_id: str) -> Response:
        """One model with its replicas, by its id or an alias."""
        for record in await state.catalog():
            if model_id == record.model_id or model_id in record.aliases:
                return answer(views.model_detail(record, await state.fleet_if_any(), await state.demand()))
        raise ModelNotFound(model_id, f"The catalog has no model '{model_id[:200]}'. GET {PREFIX}/models lists them.")


def _add_orders(router: APIRouter, parts: AdminParts) -> None:
    orders = parts.orders

    @router.post("/models/{model_id:path}/{verb}", responses=shape(CommandReply), operation_id="order_model")
    async def order(
        model_id: str,
        verb: Verb,
        wait: bool = False,
        timeout_s: Annotated[float, Query(gt=0, le=600)] = 120.0,
        dry_run: bool = False,
    ) -> Response:
        """Wake, sleep or stop a model by hand; with ``wait=true`` the answer comes when it is done; with
        ``dry_run=true`` nothing changes, and ``actions`` are the replicas that would be put down."""
        waits = wait and not dry_run
        limit_s = timeout_s if waits else min(timeout_s, ACCEPT_TIMEOUT_S)
        return answer(await orders.give(verb, model_id, wait=waits, timeout_s=limit_s, dry_run=dry_run))

    @router.post("/reload", responses=shape(CommandReply), operation_id="reload_configuration")
    async def reload() -> Response:
        """Read the configuration now. A wrong one is refused with the reason, and the last good one stays."""
        return answer(await orders.give("reload", None, wait=False, timeout_s=ACCEPT_TIMEOUT_S))

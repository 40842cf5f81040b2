"""GET /admin/v1/why: where something is and why, what a call would meet now, what was decided last, what would help."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway import why_documents as shapes
from gateway import why_views as views
from gateway.clock import Clock
from gateway.decision_documents import DecisionView
from gateway.decision_stream import DecisionStream, Wanted
from gateway.decision_views import newest_first
from gateway.documents import answer, shape
from gateway.errors import ControllerUnavailable, InvalidRequest, ModelNotFound, NotFound
from gateway.orders import Orders
from gateway.plan_documents import IfCalled
from gateway.state import State
from models.store.records import ModelRecord

if TYPE_CHECKING:
    from gateway.plan_documents import PlanDocument

ACCEPT_TIMEOUT_S = 5.0
LOOKED_AT = 200  # decisions among which the one is that brought a replica where it is

DOCUMENTS = shapes.DOCUMENTS


def add_why(router: APIRouter, state: State, orders: Orders, stream: DecisionStream, clock: Clock) -> None:
    @router.get("/why", responses=shape(shapes.Why), operation_id="why")
    async def why(
        model: str | None = None,
        replica: str | None = None,
        gpu: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 8,
    ) -> Response:
        """Of a model (id or alias), a replica or a GPU. Changes nothing; also answers while no controller runs."""
        if sum(name is not None for name in (model, replica, gpu)) != 1:
            raise InvalidRequest("Name a model, a replica or a GPU.", param="model")
        asked = _Asked(state, orders, stream, clock)
        if model is not None:
            found = await asked.model(model)
        else:
            found = await asked.replica(replica) if replica is not None else await asked.gpu(gpu or "")
        return answer(msgspec.structs.replace(found, decisions=found.decisions[:limit]))


class _Asked:
    def __init__(self, state: State, orders: Orders, stream: DecisionStream, clock: Clock) -> None:
        self._state, self._orders, self._stream, self._clock = state, orders, stream, clock

    async def model(self, name: str) -> shapes.Why:
        record = await self._record(name)
        if_called, unknown = await self._if_called(record.model_id)
        decisions = await self._decisions(Wanted(model=record.model_id))
        fleet = await self._state.fleet_if_any()
        return views.why_model(record, fleet, decisions, if_called, unknown, self._clock.unix())

    async def replica(self, name: str) -> shapes.Why:
        decisions, fleet = await self._decisions(Wanted(replica=name)), await self._state.fleet_if_any()
        if not decisions and not any(each.replica_id == name for each in (fleet.replicas if fleet else ())):
            raise NotFound(f"No replica '{name[:200]}' is there, and no decision names one.", param="replica")
        return views.why_replica(name, fleet, await self._state.catalog(), decisions, self._clock.unix())

    async def gpu(self, name: str) -> shapes.Why:
        fleet = await self._state.fleet()
        found = next((each for each in fleet.gpus if each.id == name), None)
        if found is None:
            there = ", ".join(each.id for each in fleet.gpus) or "none"
            raise NotFound(
                f"There is no GPU '{name[:200]}'; these are there: {there}.", param="gpu", code="gpu_not_found"
            )
        decisions = await self._decisions(Wanted(gpu=name))
        return views.why_gpu(found, fleet, await self._state.catalog(), decisions, self._clock.unix())

    async def _record(self, name: str) -> ModelRecord:
        for record in await self._state.catalog():
            if name == record.model_id or name in record.aliases:
                return record
        raise ModelNotFound(name, f"The catalog has no model '{name[:200]}'. GET /admin/v1/models lists them.")

    async def _if_called(self, model: str) -> tuple[IfCalled | None, str | None]:
        """What a request would meet; or None, and why that is not known."""
        try:
            await self._orders.give("snapshot", None, wait=False, timeout_s=ACCEPT_TIMEOUT_S)
            line = await self._state.snapshot()
        except ControllerUnavailable as away:
            return None, str(away)
        found = await asyncio.to_thread(_explained, line, model)
        return (found, None) if found is not None else (None, "The controller has not seen this model yet.")

    async def _decisions(self, wanted: Wanted) -> tuple[DecisionView, ...]:
        last = await self._stream.last(LOOKED_AT, wanted)
        return newest_first(last, LOOKED_AT, await self._stream.came_of(last)).data


def _explained(line: bytes, model: str) -> IfCalled | None:
    from gateway.plan_views import UnknownName, plan_document, read_step

    try:
        document: PlanDocument = plan_document(read_step(line), explain=True, model=model, wake=None, drain=None)
    except UnknownName:
        return None
    return document.models[0].if_called

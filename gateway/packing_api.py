"""Admin endpoints around the packer: what it would do and why, GPUs to be emptied, recordings."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway import plan_documents as shapes
from gateway.documents import answer, shape
from gateway.errors import InvalidRequest, NotFound
from gateway.orders import Orders
from gateway.state import State
from models.store.records import CommandReply

ACCEPT_TIMEOUT_S = 10.0
EXPLAINED_MAX = 200  # models at once: each is decided about on its own
Cordon = Literal["drain", "undrain"]
STREAM_ID = r"^\d{1,20}-\d{1,20}$"


class RecordedLine(msgspec.Struct, kw_only=True):
    """``line``: one line of a recording's file, as it is written there. ``number``: counted without gaps."""

    id: str
    number: int
    line: str


class RecordedLines(msgspec.Struct, kw_only=True):
    """Oldest first. ``next_after``: give it as ``after`` for what comes next."""

    object: str = "list"
    data: tuple[RecordedLine, ...]
    next_after: str


DOCUMENTS = (*shapes.DOCUMENTS, RecordedLines)


def add_plan(router: APIRouter, state: State, orders: Orders) -> None:
    @router.get("/plan", responses=shape(shapes.PlanDocument), operation_id="plan")
    async def plan(
        explain: bool = False, model: str | None = None, wake: str | None = None, drain: str | None = None
    ) -> Response:
        """What the packer does now and why. ``explain``: also what a call of each model would meet.

        ``wake``: what it would do if this model were called now; ``drain``: if this GPU were to be emptied. Nothing
        is changed by asking. Sizes are bytes.
        """
        await orders.give("snapshot", None, wait=False, timeout_s=ACCEPT_TIMEOUT_S)
        names = {name: card.model_id for card in await state.catalog() for name in (card.model_id, *card.aliases)}
        line = await state.snapshot()
        document = await asyncio.to_thread(
            _plan, line, explain, names.get(model or "", model), names.get(wake or "", wake), drain
        )
        return answer(document)


def _plan(line: bytes, explain: bool, model: str | None, wake: str | None, drain: str | None) -> shapes.PlanDocument:
    from gateway.plan_views import UnknownName, plan_document, read_step

    step = read_step(line)
    known = len(step.snapshot.models)
    if explain and model is None and known > EXPLAINED_MAX:
        raise InvalidRequest(
            f"{known} models are too many to explain at once, the most are {EXPLAINED_MAX}; name one with model",
            param="explain",
        )
    try:
        return plan_document(step, explain=explain, model=model, wake=wake, drain=drain)
    except UnknownName as problem:
        raise NotFound(f"{str(problem.args[0])[:300]}.") from None


def add_cordon(router: APIRouter, orders: Orders) -> None:
    @router.post("/gpus/{gpu_id:path}/{verb}", responses=shape(CommandReply), operation_id="order_gpu")
    async def order(
        gpu_id: str, verb: Cordon, wait: bool = False, timeout_s: Annotated[float, Query(gt=0, le=600)] = 120.0
    ) -> Response:
        """``drain``: nothing new goes to this GPU, and what is there leaves as soon as it can; it stays so until
        ``undrain``. With ``wait=true`` the answer comes when nothing is on it any more."""
        limit_s = timeout_s if wait else min(timeout_s, ACCEPT_TIMEOUT_S)
        return answer(await orders.give(verb, None, gpu=gpu_id, wait=wait, timeout_s=limit_s))


def add_recording(router: APIRouter, state: State, orders: Orders) -> None:
    @router.post("/recording", responses=shape(RecordedLines), operation_id="record")
    async def record(for_s: Annotated[float, Query(ge=0, le=3600)] = 30.0) -> Response:
        """Record decisions, what they were made from, and arrivals, until ``for_s`` from now; ask again to go on, with
        0 to end it. The answer has no lines yet: ``next_after`` says where they will begin."""
        begins = await state.recording_end()
        await orders.give("record", None, for_s=for_s, wait=False, timeout_s=ACCEPT_TIMEOUT_S)
        return answer(RecordedLines(data=(), next_after=begins))

    @router.get("/recording", responses=shape(RecordedLines), operation_id="read_recording")
    async def read(
        after: Annotated[str, Query(pattern=STREAM_ID)] = "0-0", limit: Annotated[int, Query(ge=1, le=1000)] = 200
    ) -> Response:
        """Lines of the recording after ``after``."""
        found = await state.recording(after, limit)
        data = tuple(RecordedLine(id=each, number=number, line=line) for each, number, line in found)
        return answer(RecordedLines(data=data, next_after=data[-1].id if data else after))

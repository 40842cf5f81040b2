"""Admin endpoints for models that are kept warm: what is, and orders to keep one so."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway.documents import answer, shape
from gateway.orders import Orders
from gateway.state import State
from models.store.records import CommandReply, WarmRecord

ACCEPT_TIMEOUT_S = 10.0
MOST_REPLICAS = 10_000


class WarmList(msgspec.Struct, kw_only=True):
    """By model: operators' orders, and of each hours in a card's schedule the time that goes on or comes next."""

    object: str = "list"
    data: tuple[WarmRecord, ...]


DOCUMENTS = (WarmList,)


def add_warm(router: APIRouter, state: State, orders: Orders) -> None:
    """To be added before the other orders to models, whose path would take these."""

    @router.get("/warm", responses=shape(WarmList), operation_id="list_warm")
    async def warm() -> Response:
        """What is kept warm or will be, how many are ready, and what is in the way where that is fewer."""
        return answer(WarmList(data=(await state.fleet()).warm))

    @router.post("/models/{model_id:path}/warm", responses=shape(CommandReply), operation_id="warm_model")
    async def order(
        model_id: str,
        replicas: Annotated[int, Query(ge=0, le=MOST_REPLICAS)] = 1,
        until_unix_s: Annotated[float | None, Query(gt=0, le=1e11)] = None,
        wait: bool = False,
        timeout_s: Annotated[float, Query(gt=0, le=600)] = 120.0,
        dry_run: bool = False,
    ) -> Response:
        """Keep so many replicas of a model until then, or until that is called off with ``replicas=0``; a later order
        replaces it. With ``wait=true`` the answer comes when all are ready; with ``dry_run=true`` nothing changes, and
        ``detail.actions`` says what would be done at once."""
        limit_s = timeout_s if wait and not dry_run else min(timeout_s, ACCEPT_TIMEOUT_S)
        reply = await orders.give(
            "warm",
            model_id,
            wait=wait,
            timeout_s=limit_s,
            replicas=replicas,
            until_unix_s=until_unix_s,
            dry_run=dry_run,
        )
        if dry_run and replicas:
            reply = msgspec.structs.replace(reply, detail={**reply.detail, **await _would(model_id, reply)})
        return answer(reply)

    async def _would(model_id: str, reply: CommandReply) -> dict[str, Any]:
        await orders.give("snapshot", None, wait=False, timeout_s=ACCEPT_TIMEOUT_S)
        names = {name: card.model_id for card in await state.catalog() for name in (card.model_id, *card.aliases)}
        line = await state.snapshot()
        replicas = int(reply.detail.get("replicas", 0))
        return await asyncio.to_thread(_actions, line, names.get(model_id, model_id), replicas)


def _actions(line: bytes, model: str, replicas: int) -> dict[str, Any]:
    """What is decided from the last snapshot when so many are kept."""
    from gateway.plan_views import read_step, supposed_actions
    from models.control.floors import with_floor

    step = read_step(line)
    actions = supposed_actions(step, with_floor(step.snapshot, model, replicas))
    return {"snapshot_id": step.snapshot.id, "actions": msgspec.to_builtins(actions)}

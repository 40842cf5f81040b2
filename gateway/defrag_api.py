"""Admin endpoints for tidying up: a plan, a run of moves, how far it is, and an end to it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway import defrag_documents as shapes
from gateway.documents import answer, shape
from gateway.orders import Orders
from gateway.state import State
from models.store.records import CommandReply

ACCEPT_TIMEOUT_S = 10.0
MOST_MOVES = 1000

DOCUMENTS = shapes.DOCUMENTS


def add_defrag(router: APIRouter, state: State, orders: Orders) -> None:
    @router.get("/defrag", responses=shape(shapes.DefragStatus), operation_id="show_defrag")
    async def show() -> Response:
        """The run that is going on, or the last one, with each of its moves."""
        return answer(shapes.DefragStatus(run=(await state.fleet()).defrag))

    @router.post("/defrag", responses=shape(CommandReply), operation_id="defrag")
    async def defrag(
        moves: Annotated[int | None, Query(ge=1, le=MOST_MOVES)] = None,
        dry_run: bool = False,
        wait: bool = False,
        timeout_s: Annotated[float, Query(gt=0, le=3600)] = 600.0,
    ) -> Response:
        """Move replicas together so that GPUs become free; each is started anew before the old one leaves. At most
        ``moves``, as many at a time as the policies' ``defrag_budget`` says. ``dry_run``: only plan; ``detail`` of the
        answer has the moves, what they gain and cost, and who cannot move and why. With ``wait=true`` the answer comes
        when it is over."""
        limit_s = timeout_s if wait and not dry_run else min(timeout_s, ACCEPT_TIMEOUT_S)
        return answer(
            await orders.give(
                "defrag", None, moves=moves, dry_run=dry_run, wait=wait and not dry_run, timeout_s=limit_s
            )
        )

    @router.post("/defrag/abort", responses=shape(CommandReply), operation_id="abort_defrag")
    async def abort(dry_run: bool = False) -> Response:
        """Nothing more begins. A substitute that does not serve yet ends, and the old replica stays; where the old one
        is leaving already, the move is finished."""
        return answer(await orders.give("defrag-abort", None, dry_run=dry_run, wait=False, timeout_s=ACCEPT_TIMEOUT_S))

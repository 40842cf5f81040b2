"""GET /admin/v1/decisions: what was decided, why, at what price and how it came out; also what comes from now on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway import decision_documents as shapes
from gateway.decision_stream import DecisionStream, Wanted
from gateway.decision_views import newest_first, oldest_first
from gateway.documents import answer, shape
from gateway.errors import InvalidRequest
from gateway.leaving import Leaving

STREAM_ID = r"^\d{1,20}-\d{1,20}$"
LONGEST_WAIT_S = 30.0

DOCUMENTS = shapes.DOCUMENTS


def add_decisions(router: APIRouter, stream: DecisionStream, leaving: Leaving) -> None:
    @router.get("/decisions", responses=shape(shapes.DecisionList), operation_id="list_decisions")
    async def decisions(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        model: str | None = None,
        replica: str | None = None,
        gpu: str | None = None,
        before: Annotated[str | None, Query(pattern=STREAM_ID)] = None,
        after: Annotated[str | None, Query(pattern=STREAM_ID)] = None,
        wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0.0,
    ) -> Response:
        """What was decided and why, newest first, each with how it came out. With ``after``: what was decided later
        than that, oldest first; with ``wait_s`` the answer comes as soon as there is something, at the latest then."""
        if before is not None and after is not None:
            raise InvalidRequest("Give either before or after.", param="after")
        wanted = Wanted(model, replica, gpu)
        if after is not None:
            found, upto = await stream.wait(after, limit, wanted, wait_s, lambda: leaving.now)
            return answer(oldest_first(found, upto))
        if wait_s:
            raise InvalidRequest("Waiting takes after: the id up to which decisions are known.", param="wait_s")
        last = await stream.last(limit, wanted, before)
        return answer(newest_first(last, limit, await stream.came_of(last)))

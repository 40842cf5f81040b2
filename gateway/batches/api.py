"""/v1/batches, as in OpenAI's API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from gateway.batches import states
from gateway.batches.desk import Desk
from gateway.batches.records import Batch, BatchList, BatchRecord, batch_list, new_batch_id, shown
from gateway.batches.store import BatchStore
from gateway.clock import Clock
from gateway.documents import answer, shape
from gateway.endpoints import BodyKind, Endpoint
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.files.cabinet import Cabinet
from gateway.files.records import BATCH_PURPOSE, new_file_id
from models.store.records import KeyRecord
from models.store.shelf import ShelfFull

OUTPUT_LASTS_S = 30 * 86_400
LONGEST_WINDOW_S = 14 * 86_400
_WINDOW = re.compile(r"([1-9]\d{0,5})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NOT_TEXT = ("speech", "transcribe")  # answers that are no JSON


class OutputExpiry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=30 * 86_400)]


class BatchOrder(BaseModel):
    """``completion_window``: such as 24h; s, m, h and d are understood, up to 14d."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: Annotated[str, Field(min_length=1, max_length=100)]
    endpoint: Annotated[str, Field(min_length=1, max_length=200)]
    completion_window: str = "24h"
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    output_expires_after: OutputExpiry | None = None


def batchable(endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    """Paths of requests that are JSON and answered by JSON."""
    return tuple(
        endpoint.path
        for endpoint in endpoints
        if endpoint.method == "POST"
        and endpoint.body is BodyKind.JSON
        and not endpoint.model_in_path
        and endpoint.capability not in _NOT_TEXT
    )


def batches_router(
    store: BatchStore,
    cabinet: Cabinet,
    desk: Desk,
    paths: tuple[str, ...],
    clock: Clock,
    who: Callable[[Request], Awaitable[KeyRecord]],
) -> APIRouter:
    """``paths``: endpoints that a batch may be for. ``who`` checks the API key of a request."""
    router = APIRouter(prefix="/v1/batches", tags=["batches"])

    async def find(key: KeyRecord, batch_id: str) -> BatchRecord:
        record = await store.find(key.key_id, batch_id)
        if record is None:
            raise NotFound(f"No batch found with id '{batch_id[:100]}'.", param="id", code="batch_not_found")
        return record

    @router.post("", responses=shape(Batch), operation_id="create_batch")
    async def create(order: BatchOrder, key: KeyRecord = Depends(who)) -> Response:
        """Have the requests of a file worked off while there is room."""
        window_s = window(order.completion_window)
        if order.endpoint not in paths:
            raise InvalidRequest(f"The endpoint must be one of {', '.join(paths)}.", param="endpoint")
        file = await cabinet.find(key.key_id, order.input_file_id)
        if file.purpose != BATCH_PURPOSE:
            message = f"{file.id} was uploaded for '{file.purpose}'; a batch needs a file whose purpose is 'batch'."
            raise InvalidRequest(message, param="input_file_id")
        now = int(clock.unix())
        expiry = order.output_expires_after
        record = BatchRecord(
            id=new_batch_id(),
            owner=key.key_id,
            name=key.name,
            endpoint=order.endpoint,
            input_file_id=file.id,
            completion_window=order.completion_window,
            status="validating",
            created_at=now,
            expires_at=now + window_s,
            output_file=new_file_id(),
            error_file=new_file_id(),
            output_lasts_s=expiry.seconds if expiry else OUTPUT_LASTS_S,
            metadata=order.metadata,
        )
        await asyncio.to_thread(store.lay_out, record.id, cabinet.content(key.key_id, file))
        try:
            await store.add(record)
        except ShelfFull as full:
            await store.close(record.owner, record.id)
            raise Conflict(
                "This API key has too many batches that are not finished.", code="too_many_batches"
            ) from full
        desk.news.set()
        return answer(shown(record))

    @router.get("", responses=shape(BatchList), operation_id="list_batches")
    async def list_batches(
        key: KeyRecord = Depends(who), after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> Response:
        """The batches of this API key, newest first."""
        page = await store.page(key.key_id, after, limit)
        return answer(batch_list(page.records, page.more))

    @router.get("/{batch_id}", responses=shape(Batch), operation_id="retrieve_batch")
    async def retrieve(batch_id: str, key: KeyRecord = Depends(who)) -> Response:
        return answer(shown(await find(key, batch_id)))

    @router.post("/{batch_id}/cancel", responses=shape(Batch), operation_id="cancel_batch")
    async def cancel(batch_id: str, key: KeyRecord = Depends(who)) -> Response:
        """What is done is in the output file; what is not is not begun any more."""
        await find(key, batch_id)
        changed = await store.change(key.key_id, batch_id, lambda record: states.cancelling(record, clock.unix()))
        record = changed or await find(key, batch_id)
        if changed is None and record.status not in ("cancelling", "cancelled"):
            raise Conflict(f"The batch is {record.status}; there is nothing to cancel.", code="batch_ended")
        desk.news.set()
        return answer(shown(record))

    return router


def window(text: str) -> int:
    """Seconds. Raises InvalidRequest."""
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_WINDOW_S:
        raise InvalidRequest("completion_window must be a time such as 24h, at most 14d.", param="completion_window")
    return seconds

"""/v1/responses/{id}: what was answered before, as in OpenAI's API. Making one goes through the data plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.documents import JSON, answer, shape
from gateway.errors import InvalidRequest
from gateway.responses.background import Background
from gateway.responses.items import conversation, listed
from gateway.responses.records import ItemList, KeptResponse, ResponseDeleted, ResponseObject
from gateway.responses.shelf import Responses
from models.store.records import KeyRecord


def responses_router(
    responses: Responses, background: Background, who: Callable[[Request], Awaitable[KeyRecord]]
) -> APIRouter:
    """``who`` checks the API key of a request."""
    router = APIRouter(prefix="/v1/responses", tags=["responses"])

    @router.get("/{response_id}", responses=shape(ResponseObject), operation_id="retrieve_response")
    async def retrieve(response_id: str, key: KeyRecord = Depends(who), stream: bool = False) -> Response:
        """A response of this API key, as it is now."""
        if stream:
            message = "The events of a response are not kept; leave 'stream' out to get all of it."
            raise InvalidRequest(message, param="stream", code="unsupported_parameter")
        return _shown(await responses.find(key.key_id, response_id))

    @router.delete("/{response_id}", responses=shape(ResponseDeleted), operation_id="delete_response")
    async def delete(response_id: str, key: KeyRecord = Depends(who)) -> Response:
        """One that is being made in the background is cancelled. What continues from it cannot be continued."""
        found = await responses.find(key.key_id, response_id)
        if found.background:
            await background.drop(key.key_id, found.id)
        await responses.remove(key.key_id, found.id)
        return answer(ResponseDeleted(id=found.id))

    @router.post("/{response_id}/cancel", responses=shape(ResponseObject), operation_id="cancel_response")
    async def cancel(response_id: str, key: KeyRecord = Depends(who)) -> Response:
        """Stop one that is being made in the background. One that has ended stays as it is."""
        found = await responses.find(key.key_id, response_id)
        if not found.background:
            message = "Only a response that was created with background=true can be cancelled."
            raise InvalidRequest(message, param="response_id", code="not_in_background")
        changed = await background.cancel(key.key_id, found.id)
        return _shown(changed or await responses.find(key.key_id, found.id))

    @router.get("/{response_id}/input_items", responses=shape(ItemList), operation_id="list_input_items")
    async def input_items(
        response_id: str,
        key: KeyRecord = Depends(who),
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Annotated[Literal["asc", "desc"], Query()] = "desc",
        after: str | None = None,
    ) -> Response:
        """All that the model was given, the earlier turns of the conversation too; newest first unless asked for."""
        found = await responses.find(key.key_id, response_id)
        turns = await responses.ancestors(key.key_id, found)
        items = listed(found.id, [*conversation(turns), *found.input])
        if order == "desc":
            items.reverse()
        ids = [item["id"] for item in items]
        start = 0 if after is None else ids.index(after) + 1 if after in ids else len(ids)
        page = items[start : start + limit]
        return answer(
            ItemList(
                data=tuple(page),
                first_id=page[0]["id"] if page else None,
                last_id=page[-1]["id"] if page else None,
                has_more=start + limit < len(items),
            )
        )

    return router


def _shown(kept: KeptResponse) -> Response:
    return Response(bytes(kept.response), media_type=JSON)

"""API keys over HTTP: list, make (shown once), revoke."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec
import redis
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.admin_documents import KeyList, NewKey
from gateway.clock import Clock
from gateway.documents import answer, shape
from gateway.errors import InvalidRequest, NotFound
from gateway.state import asking_redis
from models.store.api_keys import LONGEST_NAME, KeyNotFound, KeyRefused, create_key, list_keys, revoke_key
from models.store.keys import Keys
from models.store.records import KeyRecord

T = TypeVar("T")
TIMEOUT_S = 5.0


class KeyOrder(BaseModel):
    """What a new key is for."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    scopes: Annotated[list[Literal["inference", "admin"]], Field(min_length=1)] = ["inference"]


def keys_router(client: redis.Redis, keys: Keys, clock: Clock) -> APIRouter:
    """``client`` blocks, so it is used on threads; these calls are rare."""
    router = APIRouter(prefix="/keys")

    @router.get("", responses=shape(KeyList), operation_id="list_keys")
    async def list_all() -> Response:
        """Every key that was made, revoked ones too; never its text."""
        return answer(KeyList(data=tuple(await _on_thread(lambda: list_keys(client, keys)))))

    @router.post("", responses=shape(NewKey, 201), status_code=201, operation_id="create_key")
    async def create(order: KeyOrder) -> Response:
        """The text of the key is in this answer and nowhere else."""
        try:
            created = await _on_thread(lambda: create_key(client, keys, order.name, order.scopes, clock.unix()))
        except KeyRefused as refused:
            raise InvalidRequest(f"{refused}.", param="name") from refused
        return answer(NewKey(**msgspec.structs.asdict(created.record), key=created.text), 201)

    @router.delete("/{key_id}", responses=shape(KeyRecord), operation_id="revoke_key")
    async def revoke(key_id: str) -> Response:
        """It stops working at once."""
        try:
            record = await _on_thread(lambda: revoke_key(client, keys, key_id, clock.unix()))
        except KeyNotFound as missing:
            raise NotFound(f"{missing}.", param="key_id", code="key_not_found") from missing
        return answer(record)

    return router


async def _on_thread(call: Callable[[], T]) -> T:
    async with asking_redis(TIMEOUT_S):
        return await asyncio.to_thread(call)

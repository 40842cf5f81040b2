"""API keys over HTTP: list, make (shown once), change, rotate, revoke."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field

from gateway.documents import Version, answer, shape
from gateway.errors import GatewayError, InvalidRequest
from gateway.tenancy_calls import TenancyCalls, refusal
from gateway.tenancy_documents import KeyList, NewKey
from gateway.tenancy_fields import KeyFields
from models.store import key_edits
from models.store.api_keys import LONGEST_NAME, CreatedKey, KeyRefused, build_key, list_keys
from models.store.records import KeyRecord

LONGEST_OVERLAP_S = 365 * 86_400.0


class NewKeyFields(KeyFields):
    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


def keys_router(calls: TenancyCalls) -> APIRouter:
    router = APIRouter(prefix="/keys")
    _add_making(router, calls)
    _add_changing(router, calls)
    return router


def _add_making(router: APIRouter, calls: TenancyCalls) -> None:
    @router.get("", responses=shape(KeyList), operation_id="list_keys")
    async def list_all(tenant: str | None = None) -> Response:
        """Every key that was made, revoked ones too; never its text."""
        found = await calls.on_thread(lambda: list_keys(calls.client, calls.keys))
        return answer(KeyList(data=tuple(key for key in found if tenant in (None, key.tenant))))

    @router.post("", responses=shape(NewKey, 201), status_code=201, operation_id="create_key")
    async def create(order: NewKeyFields, version: Version = None, dry_run: bool = False) -> Response:
        """The text of the key is in this answer and nowhere else."""
        given = order.given
        name, scopes = given.pop("name"), given.pop("scopes", ("inference",))
        try:
            created = build_key(name, scopes, calls.clock.unix(), **given)
        except KeyRefused as refused:
            raise _refused(refused, order) from refused
        await calls.change(lambda known, _: key_edits.adding(known, created), version=version, dry_run=dry_run)
        return answer(_shown(created, dry_run), 201)

    @router.post("/{key_id}/rotate", responses=shape(NewKey, 201), status_code=201, operation_id="rotate_key")
    async def rotate(
        key_id: str,
        overlap_s: Annotated[float, Query(ge=0, le=LONGEST_OVERLAP_S)] = 86_400.0,
        expires_unix_s: Annotated[float | None, Query(gt=0, le=1e11)] = None,
        version: Version = None,
        dry_run: bool = False,
    ) -> Response:
        """The same key gets another text, which is in this answer and nowhere else; the one it has works
        ``overlap_s`` longer. All that is the key's goes on: limits, usage, what it keeps."""
        created = await calls.change(
            lambda known, now_s: key_edits.rotating(known, key_id, now_s, overlap_s, expires_unix_s),
            version=version,
            dry_run=dry_run,
        )
        return answer(_shown(created, dry_run), 201)


def _add_changing(router: APIRouter, calls: TenancyCalls) -> None:
    @router.patch("/{key_id}", responses=shape(KeyRecord), operation_id="set_key")
    async def change(key_id: str, order: KeyFields, version: Version = None, dry_run: bool = False) -> Response:
        """What is left out stays as it is. Gateways go by it within a second."""
        changed = await calls.change(
            lambda known, _: key_edits.setting(known, key_id, order.given), version=version, dry_run=dry_run
        )
        return answer(changed)

    @router.delete("/{key_id}", responses=shape(KeyRecord), operation_id="revoke_key")
    async def revoke(key_id: str, version: Version = None, dry_run: bool = False) -> Response:
        """All of its texts stop working, everywhere within a second."""
        ended = await calls.change(
            lambda known, now_s: key_edits.revoking(known, key_id, now_s), version=version, dry_run=dry_run
        )
        return answer(ended)


def _shown(created: CreatedKey, dry_run: bool) -> NewKey:
    return NewKey(**msgspec.structs.asdict(created.record), key="" if dry_run else created.text)


def _refused(refused: KeyRefused, order: KeyFields) -> GatewayError:
    """A scope is named by its place."""
    if refused.field != "scopes":
        return refusal(refused)
    from models.store.api_keys import SCOPES

    wrong = next((index for index, scope in enumerate(order.scopes) if scope not in SCOPES), 0)
    return InvalidRequest(f"{refused}.", param=f"scopes.{wrong}")

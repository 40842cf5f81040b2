"""Who did what: the audit log over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway.documents import answer, shape
from gateway.tenancy_calls import TenancyCalls
from gateway.tenancy_documents import AuditList
from models.store.audit import read_audit


def add_audit(router: APIRouter, calls: TenancyCalls) -> None:
    @router.get("/audit", responses=shape(AuditList), operation_id="read_audit")
    async def audit(
        since_unix_s: Annotated[float, Query(ge=0, le=1e11)] = 0.0,
        until_unix_s: Annotated[float | None, Query(ge=0, le=1e11)] = None,
        by: str = "*",
        act: str = "*",
        what: str = "*",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Every act of administrators, the newest first, with what there was before and after. ``by``, ``act``,
        ``what``: patterns, such as act=key.*"""
        found = await calls.on_thread(
            lambda: read_audit(
                calls.client,
                calls.keys,
                since_unix_s=since_unix_s,
                until_unix_s=until_unix_s,
                by=by,
                act=act,
                what=what,
                limit=limit,
            )
        )
        return answer(AuditList(data=tuple(found)))

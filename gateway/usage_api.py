"""Usage over HTTP: a key's own, and for administrators everybody's, GPUs' time, single requests, and invoices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from redis.asyncio import Redis

from gateway import organization_api
from gateway import usage_documents as shapes
from gateway import usage_views as views
from gateway.accounts import Account
from gateway.billing.invoice_pages import invoice_csv, invoice_html
from gateway.clock import Clock
from gateway.documents import answer, shape
from gateway.errors import InvalidRequest
from gateway.usage_books import Asked, Books
from gateway.usage_reading import Reading
from gateway.usage_times import listed, span
from models.store.keys import Keys
from models.store.rollups import DAY_S, HOURS_KEPT_S, Bucket
from models.store.usage import DIMENSIONS, GPU_DIMENSIONS

STREAM_ID = r"^\d{1,20}-\d{1,20}$"
DOCUMENTS = (*shapes.DOCUMENTS, *organization_api.DOCUMENTS)

Since = Annotated[str, Query(description="How long ago (24h, 7d), a date or time in UTC, or Unix seconds")]
Until = Annotated[str | None, Query(description="The same; now unless it is given")]
Named = Annotated[str | None, Query(max_length=300)]


def reading(redis: Redis, keys: Keys, clock: Clock) -> Reading:
    return Reading(Books(redis, keys), clock)


def own_usage_router(read: Reading, who: Callable[..., object]) -> APIRouter:
    """``who``: the account that asks, as a dependency."""
    router = APIRouter(prefix="/v1/usage", tags=["usage"])

    @router.get("", responses=shape(shapes.OwnUsage), operation_id="own_usage")
    async def own(since: Since = "30d", account: Account = Depends(who)) -> Response:
        """What the key that asks has used since then, by model and by day, and what its limits leave."""
        return answer(await read.own(account, span(since, None, read.clock.steady())[0]))

    return router


def add_usage(router: APIRouter, read: Reading) -> None:
    @router.get("/usage", responses=shape(shapes.UsageReport), operation_id="usage")
    async def usage(
        by: str = "tenant,model",
        since: Since = "24h",
        until: Until = None,
        bucket: Bucket = "none",
        tenant: Named = None,
        project: Named = None,
        key: Named = None,
        model: Named = None,
    ) -> Response:
        """Sums of what was used. ``by``: any of tenant, project, key, model, with commas; none for the total only."""
        where = _given(tenant=tenant, project=project, key=key, model=model)
        return answer(await read.usage(_asked(read, since, until, bucket, listed(by, DIMENSIONS, "by"), where)))

    @router.get("/usage/gpus", responses=shape(shapes.GpuUsageReport), operation_id="gpu_usage")
    async def gpus(
        by: str = "gpu,use",
        since: Since = "24h",
        until: Until = None,
        bucket: Bucket = "none",
        gpu: Named = None,
        tenant: Named = None,
        model: Named = None,
    ) -> Response:
        """What GPUs did with their time: all of it is busy, idle, starting or free. ``by``: any of gpu, use, tenant,
        project, key, model; always by use, too."""
        where = _given(gpu=gpu, tenant=tenant, model=model)
        groups = tuple(dict.fromkeys((*listed(by, GPU_DIMENSIONS, "by"), "use")))
        return answer(await read.gpus(_asked(read, since, until, bucket, groups, where)))

    @router.get("/usage/requests", responses=shape(shapes.SettledRequests), operation_id="settled_requests")
    async def requests(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[str | None, Query(pattern=STREAM_ID)] = None,
        tenant: Named = None,
        project: Named = None,
        key: Named = None,
        model: Named = None,
        id: Named = None,
    ) -> Response:
        """Single requests with what each used and cost, newest first; of the last hundred thousand or so."""
        where = _given(tenant=tenant, project=project, key_id=key, model=model, id=id)
        found = await read.settled(limit, before, where)
        data = tuple(views.settled_request(position, event) for position, event in found)
        return answer(shapes.SettledRequests(data=data, next_before=data[-1].position if len(data) == limit else None))

    organization_api.add_organization(router, read)


def add_invoices(router: APIRouter, read: Reading) -> None:
    @router.get("/invoices/{tenant}/{month}", responses=shape(shapes.InvoiceView), operation_id="invoice")
    async def invoice(tenant: str, month: str, format: Literal["json", "csv", "html"] = "json") -> Response:
        """What a tenant owes for a month such as 2026-11 (UTC). The lines add up to the total exactly."""
        made = await read.invoice(tenant, month)
        if format == "csv":
            return Response(invoice_csv(made), media_type="text/csv; charset=utf-8")
        if format == "html":
            # Nothing in it needs a script, and nothing in it is fetched.
            guarded = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
            return Response(invoice_html(made), media_type="text/html; charset=utf-8", headers=guarded)
        return answer(views.invoice_view(made))


def _given(**names: str | None) -> dict[str, str]:
    return {name: value for name, value in names.items() if value is not None}


def _asked(
    read: Reading, since: str, until: str | None, bucket: Bucket, by: tuple[str, ...], where: dict[str, str]
) -> Asked:
    """Raises InvalidRequest, also where hours are wanted that are not kept any more."""
    now_s = read.clock.steady()
    since_s, until_s = span(since, until, now_s)
    if bucket == "hour" and since_s < now_s - HOURS_KEPT_S + DAY_S:
        kept = f"Hours are kept for {HOURS_KEPT_S // DAY_S - 1} days; ask for a later since, or for bucket=day."
        raise InvalidRequest(kept, param="bucket")
    values = {name: (value,) for name, value in where.items()}
    return Asked(since_s=since_s, until_s=until_s, by=by, where=values, bucket=bucket)

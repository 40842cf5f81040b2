"""Usage and costs in the shape of OpenAI's administration API, for tools that read that.

Their organization is the whole house, a project is one of ours with its tenant (``acme/web``), a line item a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.documents import answer, shape
from gateway.errors import InvalidRequest
from gateway.usage_books import Asked
from gateway.usage_reading import Reading
from models.store.rollups import DAY_S, HOUR_S, HOURS_KEPT_S, Row, day_of, hour_of
from models.store.tenancy import NANO

GROUPED = {"project_id": ("tenant", "project"), "api_key_id": ("key",), "model": ("model",), "line_item": ("model",)}


class CompletionsResult(msgspec.Struct, kw_only=True):
    object: str = "organization.usage.completions.result"
    input_tokens: int
    output_tokens: int
    input_cached_tokens: int
    num_model_requests: int
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None


class CompletionsBucket(msgspec.Struct, kw_only=True):
    object: str = "bucket"
    start_time: int
    end_time: int
    results: tuple[CompletionsResult, ...]


class CompletionsPage(msgspec.Struct, kw_only=True):
    """Oldest first; a bucket in which nothing was used has no results."""

    object: str = "page"
    data: tuple[CompletionsBucket, ...]
    has_more: bool
    next_page: str | None


class CostsAmount(msgspec.Struct, kw_only=True):
    """As near as a JSON number can be; /admin/v1/usage has it exactly."""

    value: float
    currency: str


class CostsResult(msgspec.Struct, kw_only=True):
    object: str = "organization.costs.result"
    amount: CostsAmount
    project_id: str | None = None
    api_key_id: str | None = None
    line_item: str | None = None


class CostsBucket(msgspec.Struct, kw_only=True):
    object: str = "bucket"
    start_time: int
    end_time: int
    results: tuple[CostsResult, ...]


class CostsPage(msgspec.Struct, kw_only=True):
    """Oldest first; a day on which nothing was used has no results."""

    object: str = "page"
    data: tuple[CostsBucket, ...]
    has_more: bool
    next_page: str | None


DOCUMENTS = (CompletionsPage, CostsPage)
StartTime = Annotated[int, Query(ge=0, le=10**11, description="Unix seconds; from the beginning of its bucket")]
EndTime = Annotated[int | None, Query(ge=0, le=10**11, description="Unix seconds; now unless it is given")]
Cursor = Annotated[int | None, Query(ge=0, le=10**11, description="next_page of the page before")]


class _Page(msgspec.Struct):
    """``starts``: of its buckets, Unix seconds."""

    starts: range
    step_s: int
    next_page: str | None


def add_organization(router: APIRouter, read: Reading) -> None:
    @router.get(
        "/organization/usage/completions", responses=shape(CompletionsPage), operation_id="organization_completions"
    )
    async def completions(
        request: Request,
        start_time: StartTime,
        end_time: EndTime = None,
        bucket_width: Literal["1h", "1d"] = "1d",
        limit: Annotated[int | None, Query(ge=1, le=168)] = None,
        page: Cursor = None,
    ) -> Response:
        """All requests, of any endpoint. May be narrowed by project_ids, api_key_ids, models, and grouped by (group_by)
        project_id, api_key_id, model."""
        step_s = HOUR_S if bucket_width == "1h" else DAY_S
        found = _page(start_time, end_time, page, limit or (24 if step_s == HOUR_S else 7), step_s, read.clock.steady())
        if step_s == HOUR_S and found.starts.start < read.clock.steady() - HOURS_KEPT_S + DAY_S:
            raise InvalidRequest("Hours are not kept for so long; ask for bucket_width=1d.", param="bucket_width")
        groups = _groups(request, ("project_id", "api_key_id", "model"))
        rows = await _rows(request, read, found, groups)
        data = tuple(
            CompletionsBucket(start_time=at, end_time=at + step_s, results=_completions(some, groups))
            for at, some in rows.items()
        )
        return answer(CompletionsPage(data=data, has_more=found.next_page is not None, next_page=found.next_page))

    @router.get("/organization/costs", responses=shape(CostsPage), operation_id="organization_costs")
    async def costs(
        request: Request,
        start_time: StartTime,
        end_time: EndTime = None,
        bucket_width: Literal["1d"] = "1d",
        limit: Annotated[int, Query(ge=1, le=180)] = 7,
        page: Cursor = None,
    ) -> Response:
        """Narrowed by project_ids, api_key_ids, and grouped by (group_by) project_id, api_key_id, line_item."""
        found = _page(start_time, end_time, page, limit, DAY_S, read.clock.steady())
        groups = _groups(request, ("project_id", "api_key_id", "line_item"))
        rows, currency = await _rows(request, read, found, groups), (await read.currency()).lower()
        data = tuple(
            CostsBucket(start_time=at, end_time=at + DAY_S, results=_costs(some, groups, currency))
            for at, some in rows.items()
        )
        return answer(CostsPage(data=data, has_more=found.next_page is not None, next_page=found.next_page))


def _page(start: int, end: int | None, cursor: int | None, limit: int, step_s: int, now_s: float) -> _Page:
    """Raises InvalidRequest."""
    begins = max(start, cursor or 0) // step_s * step_s
    ends = min(now_s, now_s if end is None else end)
    if start >= ends:
        raise InvalidRequest("start_time must lie before end_time, and not in the future.", param="start_time")
    last = begins + limit * step_s
    return _Page(
        range(begins, int(min(last, -(-ends // step_s) * step_s)), step_s), step_s, str(last) if last < ends else None
    )


def _groups(request: Request, known: Sequence[str]) -> tuple[str, ...]:
    """Raises InvalidRequest."""
    wanted = tuple(dict.fromkeys(_many(request, "group_by")))
    for name in wanted:
        if name not in known:
            raise InvalidRequest(f"group_by: {name[:40]!r} is not one of {', '.join(known)}.", param="group_by")
    return wanted


async def _rows(request: Request, read: Reading, page: _Page, groups: Sequence[str]) -> dict[int, list[Row]]:
    """By the start of each bucket, those without use too."""
    by = tuple(dict.fromkeys(name for group in groups for name in GROUPED[group]))
    of_projects = tuple(tuple(each.split("/", 1)) for each in _many(request, "project_ids"))
    wanted = {"key": _many(request, "api_key_ids"), "model": _many(request, "models")}
    if of_projects:
        wanted["tenant"] = tuple(each[0] for each in of_projects)
        by = tuple(dict.fromkeys((*by, "tenant", "project")))
    hours = page.step_s == HOUR_S
    asked = Asked(
        since_s=page.starts.start,
        until_s=page.starts.stop,
        by=by,
        where={name: values for name, values in wanted.items() if values},
        bucket="hour" if hours else "day",
    )
    found: dict[int, list[Row]] = {at: [] for at in page.starts}
    named = {(hour_of if hours else day_of)(at): at for at in page.starts}
    for row in await read.rows(asked) if page.starts else ():
        names = dict(zip(by, row.group, strict=True))
        if of_projects and (names["tenant"], names["project"]) not in of_projects:
            continue
        found[named[row.at]].append(
            Row(row.at, tuple(names[name] for group in groups for name in GROUPED[group]), row.sums)
        )
    return {at: _together(rows) for at, rows in found.items()}


def _together(rows: Sequence[Row]) -> list[Row]:
    """Projects were told apart to find those that were meant, not for the answer."""
    found: dict[tuple[str, ...], dict[str, int]] = {}
    for row in rows:
        sums = found.setdefault(row.group, {})
        for metric, value in row.sums.items():
            sums[metric] = sums.get(metric, 0) + value
    return [Row("", group, sums) for group, sums in sorted(found.items())]


def _names(row: Row, groups: Sequence[str]) -> dict[str, str]:
    values, found = list(row.group), {}
    for group in groups:
        count = len(GROUPED[group])
        found[group] = "/".join(values[:count])
        del values[:count]
    return found


def _completions(rows: Sequence[Row], groups: Sequence[str]) -> tuple[CompletionsResult, ...]:
    return tuple(
        CompletionsResult(
            input_tokens=row.sums.get("prompt_tokens", 0),
            output_tokens=row.sums.get("completion_tokens", 0),
            input_cached_tokens=row.sums.get("cached_tokens", 0),
            num_model_requests=row.sums.get("requests", 0),
            **_names(row, groups),
        )
        for row in rows
    )


def _costs(rows: Sequence[Row], groups: Sequence[str], currency: str) -> tuple[CostsResult, ...]:
    return tuple(
        CostsResult(amount=CostsAmount(value=row.sums.get("cost", 0) / NANO, currency=currency), **_names(row, groups))
        for row in rows
    )


def _many(request: Request, name: str) -> tuple[str, ...]:
    """A list as clients write it: ``models=a&models=b`` or ``models[]=a``."""
    return tuple(value for key, value in request.query_params.multi_items() if key in (name, f"{name}[]"))

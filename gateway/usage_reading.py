"""Answers about usage from the books, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway import usage_documents as shapes
from gateway import usage_views as views
from gateway.accounts import Account
from gateway.billing.anomalies import Anomaly
from gateway.billing.invoices import Invoice, MonthError, make_invoice, month_of
from gateway.clock import Clock
from gateway.errors import InvalidRequest, NotFound, StoreUnavailable, Unavailable
from gateway.state import asking_redis
from gateway.usage_books import Asked, Books
from models.store import meters
from models.store.rollups import DAY_S, Row, day_of
from models.store.tenancy import DEFAULT_TENANT
from models.store.usage import SettledEvent

TIMEOUT_S = 25.0
AT_ONCE = 2
MOST_WAITING = 32
MOST_ROWS = 100_000
SHOWN_FOR_S = 24 * 3600  # an anomaly
FINAL_AFTER_S = 2 * 3600  # what is charged to owners, and starts, come to their month's books a little later
SHORTEST_GOOD_S, LONGEST_GOOD_S = 0.5, 60.0
MOST_KEPT = 1000


class _OwnRows(NamedTuple):
    """What a key has used, by model and day, from ``since_s`` (Unix); good until ``until_s`` (monotonic)."""

    since_s: float
    rows: Sequence[Row]
    settled: float | None
    until_s: float


@dataclass(slots=True)
class Reading:
    """Of one worker. All raise StoreUnavailable, and Unavailable where too many ask already."""

    books: Books
    clock: Clock
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _waiting: int = 0
    _own: dict[str, _OwnRows] = field(default_factory=dict)

    async def usage(self, asked: Asked) -> shapes.UsageReport:
        now_s, books = self.clock.steady(), self.books
        async with self._turn():
            rows = _checked(await books.usage(asked, now_s))
            house, unusual, settled = await books.house(), await books.anomalies(), await books.settled_until()
        shown = (each for each in unusual if each.hour >= now_s - SHOWN_FOR_S and _fits(each, asked.where))
        since_s, until_s = views.span(asked, now_s)
        return shapes.UsageReport(
            since_unix_s=since_s,
            until_unix_s=until_s,
            settled_until_unix_s=settled,
            bucket=asked.bucket,
            by=asked.by,
            currency=house.currency,
            total=views.total(rows),
            data=tuple(views.usage_row(row, asked.by) for row in rows),
            anomalies=tuple(views.key_anomaly(each, house.currency) for each in shown),
        )

    async def gpus(self, asked: Asked) -> shapes.GpuUsageReport:
        """``asked.by`` has ``use`` in it."""
        now_s = self.clock.steady()
        async with self._turn():
            rows, settled = _checked(await self.books.gpus(asked, now_s)), await self.books.settled_until()
        since_s, until_s = views.span(asked, now_s)
        return shapes.GpuUsageReport(
            since_unix_s=since_s,
            until_unix_s=until_s,
            settled_until_unix_s=settled,
            bucket=asked.bucket,
            by=asked.by,
            total_ns=views.ns_by_use(rows, asked.by.index("use")),
            data=tuple(views.gpu_row(row, asked.by) for row in rows),
        )

    async def problems(self) -> tuple[str, ...]:
        """For operators; nothing while nobody can be asked."""
        lately_s = self.clock.steady() - SHOWN_FOR_S
        try:
            async with asking_redis():
                unusual = [each for each in await self.books.anomalies() if each.hour >= lately_s]
                metering = meters.problems(await self.books.meters(), self.clock.steady())
                found = views.problems(unusual, (await self.books.house()).currency, await self.books.sink())
                return (*metering, *found)
        except StoreUnavailable:
            return ()

    async def rows(self, asked: Asked) -> Sequence[Row]:
        async with self._turn():
            return _checked(await self.books.usage(asked, self.clock.steady()))

    async def currency(self) -> str:
        async with self._turn():
            return (await self.books.house()).currency

    async def settled(self, limit: int, before: str | None, where: Mapping[str, str]) -> list[tuple[str, SettledEvent]]:
        async with self._turn():
            return await self.books.settled(limit, before, where)

    async def own(self, account: Account, since_s: float) -> shapes.OwnUsage:
        """Of one key, and no other; from the day of ``since_s`` until now."""
        key, now_s = account.key, self.clock.steady()
        asked = Asked(
            since_s=since_s // DAY_S * DAY_S, until_s=now_s, by=("model",), where={"key": (key.key_id,)}, bucket="day"
        )
        read = await self._own_rows(key.key_id, asked, now_s)
        rows = [row for row in read.rows if row.at >= day_of(asked.since_s)]
        async with self._turn():
            limits = await self.books.limits(account, now_s)
        begins, ends = views.span(asked, now_s)
        return shapes.OwnUsage(
            key=key.key_id,
            name=key.name,
            project=key.project,
            tenant=key.tenant,
            since_unix_s=begins,
            until_unix_s=ends,
            settled_until_unix_s=read.settled,
            currency=account.house.currency,
            total=views.total(rows),
            by_model=views.by_group(rows, asked.by),
            by_day=views.by_time(rows),
            limits=tuple(views.own_limit(use) for use in limits),
        )

    async def _own_rows(self, key_id: str, asked: Asked, now_s: float) -> _OwnRows:
        """The more work it was, the longer it is good: whoever asks all the time takes a twentieth of it at most."""
        known, begun_s = self._own.get(key_id), self.clock.monotonic()
        if known is not None and begun_s < known.until_s:
            if asked.since_s >= known.since_s:
                return known
            again = "The usage of this key was read a moment ago; ask again for a longer time."
            raise Unavailable(again, retry_after_s=known.until_s - begun_s)
        async with self._turn():
            begun_s = self.clock.monotonic()
            rows, settled = await self.books.usage(asked, now_s), await self.books.settled_until()
            ended_s = self.clock.monotonic()
        good_s = min(LONGEST_GOOD_S, max(SHORTEST_GOOD_S, 20 * (ended_s - begun_s)))
        if len(self._own) >= MOST_KEPT:
            self._own.clear()
        found = self._own[key_id] = _OwnRows(asked.since_s, rows, settled, ended_s + good_s)
        return found

    async def invoice(self, tenant: str, month: str) -> Invoice:
        """Raises InvalidRequest, NotFound."""
        try:
            of_month = month_of(month)
        except MonthError as wrong:
            raise InvalidRequest(f"{wrong}.", param="month") from None
        books = self.books
        async with self._turn():
            settled = await books.settled_until()  # first: what is read afterwards is at least as complete
            rows = await books.month(tenant, of_month, self.clock.steady())
            record, house, names = await books.tenant(tenant), await books.house(), await books.key_names()
        if record is None and not rows and tenant != DEFAULT_TENANT:
            raise NotFound(
                f"There is no tenant {tenant[:100]!r}; `roundhouse tenants list` shows those that there are.",
                param="tenant",
                code="tenant_not_found",
            )
        return make_invoice(
            tenant,
            of_month.name,
            rows,
            currency=house.currency,
            name=record.name if record is not None else "",
            key_names=names,
            final=settled is not None and settled >= of_month.until_s + FINAL_AFTER_S,
        )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise Unavailable("Many ask for usage at the moment; try again.", retry_after_s=1)
        self._waiting += 1
        try:
            async with asking_redis(TIMEOUT_S), self._turns:
                yield
        finally:
            self._waiting -= 1


def _fits(anomaly: Anomaly, where: Mapping[str, Collection[str]]) -> bool:
    of = {"tenant": anomaly.tenant, "project": anomaly.project, "key": anomaly.key_id}
    return all(name not in of or of[name] in values for name, values in where.items())


def _checked(rows: Sequence[Row]) -> Sequence[Row]:
    if len(rows) > MOST_ROWS:
        raise InvalidRequest(
            f"That would be {len(rows)} rows, and the most are {MOST_ROWS}; ask for less time, or fewer groups.",
            param="by",
        )
    return rows

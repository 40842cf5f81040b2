"""From events through the settler's own books in Redis to invoices: to the last billionth, nothing comes or goes."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.billing.books import Books
from gateway.billing.pricing import Prices, Tariff
from gateway.billing.settlement import Rules, settle
from gateway.clock import Clock
from gateway.usage_books import Asked
from gateway.usage_books import Books as Read
from gateway.usage_reading import Reading
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.tenancy import HouseRecord, PriceLine, PriceList
from models.store.usage import DIMENSIONS, SettledEvent, UsageEvent

END_S = 1_793_491_200  # 2026-11-01T00:00Z
SPAN_S = 70 * 86_400
TENANTS = ("acme", "globex")
PRICES = PriceLine(
    model="*",
    input_token=Decimal("0.00000015"),
    cached_token=Decimal("0.0000000751"),
    output_token=Decimal("0.0000006033333"),
    request=Decimal("0.0001000005"),
)
HOUSE = HouseRecord(price_lists={"usual": PriceList(name="usual", lines=(PRICES,))}, default_price_list="usual")
_prefixes = itertools.count()

EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "tenant": st.sampled_from(TENANTS),
            "project": st.sampled_from(["default", "web"]),
            "key_id": st.sampled_from(["k1", "k2"]),
            "model": st.sampled_from(["m", "org/n", ""]),
            "ended_us": st.integers((END_S - SPAN_S) * 10**6, END_S * 10**6 - 1),
            "prompt_tokens": st.integers(0, 10**6),
            "completion_tokens": st.integers(0, 10**6),
            "status": st.sampled_from([200, 400, 429, 503]),
        }
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(EVENTS, st.integers(1, 25))
def test_invoices_and_usage_are_the_sum_of_what_was_settled(
    redis_server: EmbeddedRedis, given_events: list[dict[str, Any]], at_once: int
) -> None:
    asyncio.run(_check(redis_server.url, given_events, at_once))


async def _check(url: str, given_events: list[dict[str, Any]], at_once: int) -> None:
    keys = Keys(f"invoices-{next(_prefixes)}")
    events = [
        UsageEvent(id=f"r{n}", started_us=fields["ended_us"] - 5, endpoint="chat", price_list="usual", **fields)
        for n, fields in enumerate(given_events)
    ]
    async with connect_async(url) as redis:
        settled = await _settled(Books(redis, keys), events, at_once)
        assert len(settled) == len(events)
        read = Reading(Read(redis, keys), Clock(unix=lambda: float(END_S)))
        await _compare(read, settled)
        await _compare_usage(read, settled)


async def _settled(books: Books, events: list[UsageEvent], at_once: int) -> list[SettledEvent]:
    """As the settler does, some at a time."""
    state, _ = await books.load()
    rules = Rules(HOUSE, {}, Prices([Tariff(since_us=0, house=HOUSE)]))
    found = []
    state.until_us = END_S * 10**6
    for start in range(0, len(events), at_once):
        held = [(f"{event.ended_us}-0", event) for event in events[start : start + at_once]]
        done = settle(state, held, (), (), END_S * 10**6, rules)
        await books.write(state, done, (), None)
        found += done.settled
    return found


async def _compare(read: Reading, settled: list[SettledEvent]) -> None:
    costs: dict[tuple[str, str], int] = defaultdict(int)
    for event in settled:
        month = datetime.fromtimestamp(event.ended_us // 10**6, UTC).strftime("%Y-%m")
        costs[event.tenant, month] += event.cost
    invoices = {(tenant, month): await read.invoice(tenant, month) for tenant, month in costs}
    for where, invoice in invoices.items():
        assert invoice.total == costs[where] == sum(line.cost for line in invoice.lines)
    assert sum(invoice.total for invoice in invoices.values()) == sum(event.cost for event in settled)
    assert sum(share.requests for invoice in invoices.values() for share in invoice.keys) == len(settled)
    of_lines = [line for invoice in invoices.values() for line in invoice.lines]
    assert sum(line.prompt_tokens for line in of_lines) == sum(event.prompt_tokens for event in settled)


async def _compare_usage(read: Reading, settled: list[SettledEvent]) -> None:
    """However it is grouped and filtered."""
    for by in ((), ("tenant",), ("model", "key"), DIMENSIONS):
        rows = await read.rows(Asked(since_s=END_S - SPAN_S, until_s=END_S, by=by))
        assert sum(row.sums.get("cost", 0) for row in rows) == sum(event.cost for event in settled)
        assert len(rows) == len({tuple(_value(event, name) for name in by) for event in settled})
    where = {"tenant": ("acme",), "key": ("k1", "k2"), "model": ("org/n",)}
    rows = await read.rows(Asked(since_s=END_S - SPAN_S, until_s=END_S, where=where))
    mine = [event for event in settled if event.tenant == "acme" and event.model == "org/n"]
    assert sum(row.sums.get("requests", 0) for row in rows) == len(mine)


def _value(event: SettledEvent, name: str) -> str:
    return str(getattr(event, "key_id" if name == "key" else name))

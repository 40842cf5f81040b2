"""Invoices: months, lines, and that all of them together are what all events cost."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.billing.invoice_pages import COLUMNS, invoice_csv, invoice_html
from gateway.billing.invoices import DaySums, Invoice, InvoiceLine, MonthError, make_invoice, month_of

JANUARY_US = 1_767_225_600_000_000  # 2026-01-01T00:00Z
DAY_US = 86_400_000_000


def used(cost: int, *, day: str = "2026-11-03", key: str = "key_1", **where: Any) -> DaySums:
    sums = {"requests": 1, "prompt_tokens": 7, "completion_tokens": 11, "gpu_ns": 5, "cost": cost}
    given_where = {"tenant": "acme", "project": "default", "model": "m", **where}
    return DaySums(day=day, key=key, sums=sums, **given_where)


def invoice(*rows: DaySums, **given_for: Any) -> Invoice:
    return make_invoice("acme", "2026-11", rows, **{"currency": "USD", **given_for})


def test_a_month_is_of_utc_and_has_its_own_length() -> None:
    november, february = month_of("2026-11"), month_of(" 2028-02 ")
    assert datetime.fromtimestamp(november.since_s, UTC).isoformat() == "2026-11-01T00:00:00+00:00"
    assert datetime.fromtimestamp(november.until_s, UTC).isoformat() == "2026-12-01T00:00:00+00:00"
    assert (february.until_s - february.since_s) // 86_400 == 29


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "11-2026", "", "2026-11-01", "1969-12", "２０２６-11"])
def test_what_is_no_month_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(MonthError, match="write it as 2026-11"):
        month_of(text)


def test_lines_are_by_project_and_model_and_shares_by_key_and_day() -> None:
    made = invoice(
        used(5),
        used(7, day="2026-11-04", key="key_2"),
        used(100, model="n"),
        used(1_000, project="web", key="key_2"),
        key_names={"key_2": "the site"},
    )
    assert [(line.project, line.model, line.requests, line.cost) for line in made.lines] == [
        ("default", "m", 2, 12), ("default", "n", 1, 100), ("web", "m", 1, 1_000),
    ]  # fmt: skip
    assert [(share.what, share.name, share.cost) for share in made.keys] == [
        ("key_2", "the site", 1_007), ("key_1", "", 105),
    ]  # fmt: skip
    assert [(share.what, share.cost) for share in made.days] == [("2026-11-03", 1_105), ("2026-11-04", 7)]
    assert made.total == 1_112
    assert made.number == "2026-11-acme"


def test_a_model_of_which_all_was_refused_is_no_line() -> None:
    refused = DaySums("2026-11-03", "acme", "web", "key_1", "unknown", {"requests": 3})
    made = invoice(used(5), refused)
    assert [line.model for line in made.lines] == ["m"]
    assert [(share.what, share.requests) for share in made.keys] == [("key_1", 4)]


def test_gpu_time_that_owners_bear_is_a_line_of_its_own() -> None:
    made = invoice(used(5), used(7, key="", project=""))
    assert [(line.project, line.cost) for line in made.lines] == [("", 7), ("default", 5)]
    assert Reader(invoice_html(made)).texts.count("GPU time of own models") == 2


def test_other_tenants_and_other_months_are_not_in_it() -> None:
    made = invoice(used(5), used(50, tenant="acme2"), used(500, day="2026-12-01"), used(5_000, day="2026-10-31"))
    assert made.total == 5
    assert len(made.lines) == 1


def test_a_month_without_use_is_an_invoice_over_nothing() -> None:
    made = invoice()
    assert (made.total, made.lines) == (0, ())
    assert "Nothing was used" in invoice_html(made)
    assert invoice_csv(made).splitlines() == [",".join(COLUMNS)]


EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "tenant": st.sampled_from(["acme", "globex", "default"]),
            "project": st.sampled_from(["default", "web"]),
            "key": st.sampled_from(["k1", "k2", "k3"]),
            "model": st.sampled_from(["m", "n", ""]),
            "ended_us": st.integers(JANUARY_US, JANUARY_US + 400 * DAY_US),
            "cost": st.integers(0, 10**15),
            "gpu_ns": st.integers(0, 10**12),
            "prompt_tokens": st.integers(0, 10**6),
        }
    ),
    max_size=40,
)


@given(EVENTS)
def test_the_invoices_of_all_tenants_and_months_are_the_sum_of_all_events(events: list[dict[str, Any]]) -> None:
    rows = rolled_up(events)
    months = {row.day[:7] for row in rows}
    made = [
        make_invoice(tenant, month, rows, currency="USD")
        for tenant in ("acme", "globex", "default")
        for month in sorted(months)
    ]
    for metric in ("cost", "gpu_ns", "prompt_tokens"):
        in_lines = sum(getattr(line, metric) for each in made for line in each.lines)
        assert in_lines == sum(event[metric] for event in events), metric
    total = sum(event["cost"] for event in events)
    assert sum(each.total for each in made) == total
    for each in made:
        assert sum(line.cost for line in each.lines) == each.total
        assert sum(share.cost for share in each.keys) == each.total
        assert sum(share.cost for share in each.days) == each.total
    in_csv = sum(Decimal(row["amount"]) for each in made for row in csv_rows(each))
    assert in_csv * 10**9 == total


def rolled_up(events: list[dict[str, Any]]) -> list[DaySums]:
    sums: dict[tuple[str, str, str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for event in events:
        day = datetime.fromtimestamp(event["ended_us"] // 10**6, UTC).strftime("%Y-%m-%d")
        at = sums[(day, event["tenant"], event["project"], event["key"], event["model"])]
        for metric in ("cost", "gpu_ns", "prompt_tokens"):
            at[metric] += event[metric]
        at["requests"] += 1
    return [DaySums(*at, dict(found)) for at, found in sums.items()]


def csv_rows(of: Invoice) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(invoice_csv(of), newline="")))


def test_csv_has_quantities_in_the_units_of_prices() -> None:
    line = InvoiceLine(
        project="a, b", model='m "x"', requests=3, prompt_tokens=10, cached_tokens=4, completion_tokens=20,
        gpu_ns=1_500_000_000, start_gpu_ns=2, memory_kib_ms=(1 << 20) * 1000, cost=10**9,
    )  # fmt: skip
    (row,) = csv_rows(msgspec.structs.replace(invoice(), lines=(line,), total=10**9))
    assert row == {
        "invoice": "2026-11-acme", "tenant": "acme", "month": "2026-11", "project": "a, b", "model": 'm "x"',
        "requests": "3", "input_tokens": "10", "cached_tokens": "4", "output_tokens": "20", "gpu_seconds": "1.5",
        "start_gpu_seconds": "0.000000002", "gib_seconds": "1", "amount": "1.00", "currency": "USD",
    }  # fmt: skip


class Reader(HTMLParser):
    """The texts, and whether all that was opened is closed again."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_stands_alone_and_says_what_is_due() -> None:
    page = invoice_html(invoice(used(1_234_567_891_234), name="Acme <Ltd>", final=True))
    seen = Reader(page)
    assert seen.links == []
    assert "http" not in page
    assert "1,234.57 USD" in seen.texts
    assert "1234.567891234" in seen.texts
    assert "Acme <Ltd>" in seen.texts
    assert "not final" not in page
    assert "2026-11-01 to 2026-11-30" in page


def test_a_month_that_goes_on_is_marked_as_not_final() -> None:
    assert "not final" in invoice_html(invoice(used(1)))


def test_names_cannot_write_into_the_page() -> None:
    bad = "<script>alert(1)</script>"
    rows = used(5, key=bad, model=bad, project=bad), used(5, key="k", project="p")
    page = invoice_html(invoice(*rows, name=bad, key_names={"k": bad}, currency=bad))
    assert "<script" not in page
    Reader(page)

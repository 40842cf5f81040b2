"""What a tenant owes for a month: the sums of its days, put together by project and model. Pure; all of it exact.

Each event was priced and rounded to a NANO when it was settled, and nothing is rounded again: the lines of an invoice
add up to its total, and the totals of all invoices to the costs of all events.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from models.store.base import Struct

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


class MonthError(ValueError):
    """Not a month."""


class DaySums(NamedTuple):
    """What a key used of a model on one day (``models.store.usage.METRICS``)."""

    day: str
    tenant: str
    project: str
    key: str
    model: str
    sums: Mapping[str, int]


class InvoiceLine(Struct, frozen=True):
    """``cost`` in NANO of the currency. GPU time includes starts that the tenant bears."""

    project: str
    model: str
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    gpu_ns: int = 0
    start_gpu_ns: int = 0
    memory_kib_ms: int = 0
    cost: int = 0


class Share(Struct, frozen=True):
    """Of the total: one key's, or one day's. ``what``: its id or date."""

    what: str
    name: str
    requests: int
    cost: int


class Invoice(Struct, frozen=True):
    """``final``: the month is over and all of it is settled; else there may come more."""

    tenant: str
    name: str
    month: str
    currency: str
    final: bool
    lines: tuple[InvoiceLine, ...]
    keys: tuple[Share, ...]
    days: tuple[Share, ...]
    total: int

    @property
    def number(self) -> str:
        return f"{self.month}-{self.tenant}"


class Month(NamedTuple):
    """In UTC, as the days of the books. ``until_s``: Unix time of its end, which is the next one's beginning."""

    name: str
    since_s: int
    until_s: int


def month_of(text: str) -> Month:
    """Raises MonthError."""
    match = _MONTH.fullmatch(text.strip())
    if match is None or int(match[1]) < 1970:
        raise MonthError(f"{text[:40]!r} is not a month; write it as 2026-11")
    year, month = int(match[1]), int(match[2])
    since_s = int(datetime(year, month, 1, tzinfo=UTC).timestamp())
    return Month(match[0], since_s, since_s + monthrange(year, month)[1] * 86_400)


_SUMMED = tuple(name for name in InvoiceLine.__struct_fields__ if name not in ("project", "model"))


def make_invoice(
    tenant: str,
    month: str,
    used: Iterable[DaySums],
    *,
    currency: str,
    name: str = "",
    key_names: Mapping[str, str] | None = None,
    final: bool = False,
) -> Invoice:
    """``used``: of any tenants and days; those of this tenant in this month count."""
    lines: dict[tuple[str, str], dict[str, int]] = {}
    keys: dict[str, list[int]] = {}
    days: dict[str, list[int]] = {}
    total = 0
    for row in used:
        if row.tenant != tenant or row.day[:7] != month:
            continue
        line = lines.setdefault((row.project, row.model), dict.fromkeys(_SUMMED, 0))
        for metric in _SUMMED:
            line[metric] += row.sums.get(metric, 0)
        cost, requests = row.sums.get("cost", 0), row.sums.get("requests", 0)
        for shares, what in ((keys, row.key), (days, row.day)):
            share = shares.setdefault(what, [0, 0])
            share[0] += requests
            share[1] += cost
        total += cost
    names = key_names or {}
    return Invoice(
        tenant=tenant,
        name=name,
        month=month,
        currency=currency,
        final=final,
        lines=tuple(
            InvoiceLine(project=at[0], model=at[1], **sums)
            for at, sums in sorted(lines.items())
            if _used_anything(sums)
        ),
        keys=tuple(_share(what, names.get(what, ""), each) for what, each in sorted(keys.items(), key=_dearest)),
        days=tuple(_share(what, "", each) for what, each in sorted(days.items())),
        total=total,
    )


def _used_anything(sums: Mapping[str, int]) -> bool:
    """Else there were only requests that were refused."""
    return any(value for metric, value in sums.items() if metric != "requests")


def _share(what: str, name: str, sums: list[int]) -> Share:
    return Share(what=what, name=name, requests=sums[0], cost=sums[1])


def _dearest(item: tuple[str, list[int]]) -> tuple[int, str]:
    return -item[1][1], item[0]

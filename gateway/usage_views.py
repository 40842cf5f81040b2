"""From the books' rows to answers about usage. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from gateway import usage_documents as shapes
from gateway.billing.amounts import exact, gib_seconds, payable, plain, seconds
from gateway.billing.anomalies import Anomaly, words
from gateway.billing.invoices import Invoice, InvoiceLine, Share
from gateway.billing.sink import SinkStatus
from gateway.limits.reading import RuleUse
from gateway.usage_books import Asked
from models.store.limit_text import limit_text
from models.store.rollups import DAY_S, HOUR_S, NS, Row, spans
from models.store.tenancy import UNITS_OF
from models.store.usage import SettledEvent

_COUNTS = tuple(name for name in shapes.Sums.__struct_fields__ if name != "cost")


def span(asked: Asked, now_s: float) -> tuple[int, int]:
    """What was read for it: whole hours or days."""
    read = spans(asked.since_s, asked.until_s, asked.bucket, now_s)
    if not read:
        return int(asked.since_s), int(asked.until_s)
    last, last_s = read[-1]
    return read[0][1], last_s + (HOUR_S if "T" in last else DAY_S)


def usage_row(row: Row, by: Sequence[str]) -> shapes.UsageRow:
    names: dict[str, Any] = dict(zip(by, row.group, strict=True))
    return shapes.UsageRow(at=row.at or None, **names, **_sums(row.sums))


def total(rows: Iterable[Row]) -> shapes.Sums:
    return shapes.Sums(**_sums(added(row.sums for row in rows)))


def by_group(rows: Iterable[Row], by: Sequence[str]) -> tuple[shapes.UsageRow, ...]:
    """Over all times."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return tuple(
        usage_row(Row("", group, added(row.sums for row in mine)), by) for group, mine in sorted(groups.items())
    )


def by_time(rows: Iterable[Row]) -> tuple[shapes.UsageRow, ...]:
    times: dict[str, list[Row]] = {}
    for row in rows:
        times.setdefault(row.at, []).append(row)
    return tuple(usage_row(Row(at, (), added(row.sums for row in mine)), ()) for at, mine in sorted(times.items()))


def ns_by_use(rows: Iterable[Row], place: int) -> dict[str, int]:
    """``place``: of ``use`` in what they are grouped by."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.group[place]] = found.get(row.group[place], 0) + row.sums.get(NS, 0)
    return found


def own_limit(use: RuleUse) -> shapes.OwnLimit:
    """What others of its tenant have used is not its own to know; what is left it is told with every answer anyway."""
    rule, of = use.placed.rule, use.placed.place.partition(":")[0]
    unit = UNITS_OF.get(rule.what, 1)
    return shapes.OwnLimit(
        of=of,
        limit=limit_text(rule),
        what=rule.what,
        per=rule.per,
        models=rule.models,
        hard=rule.hard,
        amount=plain(rule.amount),
        used=plain(Decimal(use.used) / unit) if of == "key" else None,
        remaining=plain(Decimal(use.left) / unit),
        resets_unix_s=None if use.resets_us is None else use.resets_us / 1e6,
    )


def problems(unusual: Iterable[Anomaly], currency: str, sink: SinkStatus | None) -> tuple[str, ...]:
    """What operators should see to."""
    found = [words(each, currency) for each in unusual]
    if sink is not None and sink.problem:
        behind = "was not reached yet" if sink.behind_s is None else f"is {sink.behind_s:.0f} s behind"
        found.append(f"the copy of settled requests in PostgreSQL {behind}: {sink.problem}")
    if sink is not None and sink.gaps:
        found.append("PostgreSQL lacks settled requests that Redis had to drop; its table sink_gaps says which")
    return tuple(found)


def added(sums: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in sums:
        for metric, value in each.items():
            found[metric] = found.get(metric, 0) + value
    return found


def gpu_row(row: Row, by: Sequence[str]) -> shapes.GpuUsageRow:
    return shapes.GpuUsageRow(at=row.at or None, **dict(zip(by, row.group, strict=True)), ns=row.sums.get(NS, 0))


def settled_request(position: str, event: SettledEvent) -> shapes.SettledRequest:
    return shapes.SettledRequest(**msgspec.structs.asdict(event), position=position, amount=exact(event.cost))


def key_anomaly(anomaly: Anomaly, currency: str) -> shapes.KeyAnomaly:
    return shapes.KeyAnomaly(
        key=anomaly.key_id,
        tenant=anomaly.tenant,
        project=anomaly.project,
        metric=anomaly.metric,
        hour_unix_s=anomaly.hour,
        used=anomaly.used,
        usual=anomaly.usual,
        times=anomaly.times,
        text=words(anomaly, currency),
    )


def invoice_view(invoice: Invoice) -> shapes.InvoiceView:
    return shapes.InvoiceView(
        number=invoice.number,
        tenant=invoice.tenant,
        name=invoice.name,
        month=invoice.month,
        final=invoice.final,
        currency=invoice.currency,
        amount_due=payable(invoice.total, invoice.currency),
        total=exact(invoice.total),
        lines=tuple(_line(line) for line in invoice.lines),
        keys=tuple(_share(share) for share in invoice.keys),
        days=tuple(_share(share) for share in invoice.days),
    )


def _line(line: InvoiceLine) -> shapes.InvoiceLineView:
    return shapes.InvoiceLineView(
        project=line.project,
        model=line.model,
        requests=line.requests,
        input_tokens=line.prompt_tokens,
        cached_tokens=line.cached_tokens,
        output_tokens=line.completion_tokens,
        gpu_seconds=seconds(line.gpu_ns),
        start_gpu_seconds=seconds(line.start_gpu_ns),
        gib_seconds=gib_seconds(line.memory_kib_ms),
        amount=exact(line.cost),
    )


def _share(share: Share) -> shapes.InvoiceShare:
    return shapes.InvoiceShare(what=share.what, name=share.name, requests=share.requests, amount=exact(share.cost))


def _sums(sums: Mapping[str, int]) -> dict[str, Any]:
    counts: dict[str, Any] = {name: sums.get(name, 0) for name in _COUNTS}
    return counts | {"cost": exact(sums.get("cost", 0))}

"""Invoices as CSV, for other programs, and as one HTML page that needs nothing else, for people and printers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from html import escape

from gateway.billing.amounts import exact, gib_seconds, grouped, payable, seconds
from gateway.billing.invoices import Invoice, InvoiceLine, Share, month_of

COLUMNS = (
    "invoice", "tenant", "month", "project", "model", "requests", "input_tokens", "cached_tokens", "output_tokens",
    "gpu_seconds", "start_gpu_seconds", "gib_seconds", "amount", "currency",
)  # fmt: skip
NO_KEY = "GPU time of own models"  # that was idle or started, where the house has owners bear it
_STYLE = """
@page { size: A4; margin: 18mm 16mm }
* { box-sizing: border-box }
body { font: 14px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: #1b1f24;
  background: #fff; max-width: 60rem; margin: 2.5rem auto; padding: 0 1.5rem }
header { display: flex; justify-content: space-between; align-items: flex-start; gap: 2rem;
  border-bottom: 2px solid #1b1f24; padding-bottom: 1rem; margin-bottom: 1.5rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 }
h2 { font-size: 1rem; margin: 2rem 0 .4rem }
p { margin: .15rem 0 } .quiet { color: #59636e } .due { text-align: right }
.due strong { display: block; font-size: 1.7rem; line-height: 1.2; white-space: nowrap }
.draft { background: #fff4d6; border: 1px solid #d9b54a; padding: .5rem .75rem; margin-bottom: 1rem }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 600; color: #59636e; border-bottom: 1px solid #9aa4af; font-size: .85rem;
  vertical-align: bottom }
th, td { padding: .35rem .5rem .35rem 0 } td { border-bottom: 1px solid #e3e7eb; vertical-align: top;
  overflow-wrap: anywhere }
.n { text-align: right; padding-left: .75rem; padding-right: 0; overflow-wrap: normal } td.n { white-space: nowrap }
.lines td:not(.n) { min-width: 6rem } .lines { font-size: .92em }
tfoot td { font-weight: 600; border-top: 2px solid #1b1f24; border-bottom: 0 }
.bar { width: 40% } .bar i { display: block; height: .7rem; background: #4a7bb7; min-width: 1px; margin-top: .3rem;
  print-color-adjust: exact; -webkit-print-color-adjust: exact }
tr { break-inside: avoid } h2 { break-after: avoid } footer { margin-top: 2rem; font-size: .85rem }
@media print { html, body { font-size: 11px } body { margin: 0; padding: 0; max-width: none }
  .lines { font-size: 9px } .lines th { font-size: 9px } .lines .n { padding-left: .4rem } }
"""


def invoice_csv(invoice: Invoice) -> str:
    """One row for each project and model. The amounts are exact: they add up to the total."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow(COLUMNS)
    for line in invoice.lines:
        rows.writerow(
            (
                invoice.number, invoice.tenant, invoice.month, line.project, line.model, line.requests,
                line.prompt_tokens, line.cached_tokens, line.completion_tokens, seconds(line.gpu_ns),
                seconds(line.start_gpu_ns), gib_seconds(line.memory_kib_ms), exact(line.cost), invoice.currency,
            )
        )  # fmt: skip
    return text.getvalue()


def invoice_html(invoice: Invoice) -> str:
    whose = escape(invoice.name or invoice.tenant)
    due = f"{grouped(payable(invoice.total, invoice.currency))} {escape(invoice.currency)}"
    draft = (
        ""
        if invoice.final
        else '<p class="draft">This is not final: the month is not over, or not all of it is settled yet.</p>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Invoice {escape(invoice.number)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<header><div><h1>Invoice</h1><p>{whose}</p>"
        f'<p class="quiet">{escape(invoice.number)} · {invoice.month}-01 to {_last_day(invoice)} (UTC)</p></div>'
        f'<div class="due"><span class="quiet">Amount due</span><strong>{due}</strong></div></header>\n{draft}\n'
        f"{_lines(invoice)}\n{_keys(invoice)}\n{_days(invoice)}\n"
        f'<footer class="quiet"><p>Each request is priced by itself, and its price rounded to a billionth of the '
        f"currency; the lines add up to {exact(invoice.total)} {escape(invoice.currency)} exactly. Only the amount due "
        "is rounded once more, half to even. A GPU-second is one second of a whole GPU: requests that run on it at the "
        "same time share it. Requests that were refused at once are counted, and cost nothing.</p></footer>\n"
        "</body></html>\n"
    )


def _lines(invoice: Invoice) -> str:
    several = len({line.project for line in invoice.lines}) > 1
    columns = [*(("Project",) if several else ()), "Model"]
    figures = ("Requests", "Input tokens", "of these cached", "Output tokens", "GPU-seconds", "GiB-seconds")
    rows = [
        ([*((line.project or NO_KEY,) if several else ()), line.model or "(none)"], (*_figures(line), exact(line.cost)))
        for line in invoice.lines
    ]
    foot = f'<tr><td colspan="{len(columns) + len(figures)}">Total</td><td class="n">{exact(invoice.total)}</td></tr>'
    if not rows:
        return "<p>Nothing was used in this month.</p>"
    return _table("lines", columns, (*figures, f"Amount ({invoice.currency})"), rows, foot)


def _figures(line: InvoiceLine) -> tuple[str, ...]:
    counts = (line.requests, line.prompt_tokens, line.cached_tokens, line.completion_tokens)
    gpu_s = f"{(line.gpu_ns + line.start_gpu_ns) / 1e9:,.3f}"
    return (*(f"{count:,}" for count in counts), gpu_s, f"{float(gib_seconds(line.memory_kib_ms)):,.3f}")


def _keys(invoice: Invoice) -> str:
    if not invoice.keys:
        return ""
    rows = [([share.what, share.name] if share.what else [NO_KEY, ""], _sums(share)) for share in invoice.keys]
    return "<h2>By key</h2>" + _table("keys", ("Key", "Name"), ("Requests", f"Amount ({invoice.currency})"), rows)


def _days(invoice: Invoice) -> str:
    if not invoice.days:
        return ""
    most = max(share.cost for share in invoice.days) or 1
    rows = "".join(
        f'<tr><td>{escape(share.what)}</td><td class="bar"><i style="width:{100 * share.cost / most:.1f}%"></i></td>'
        + "".join(f'<td class="n">{figure}</td>' for figure in _sums(share))
        + "</tr>\n"
        for share in invoice.days
    )
    head = f'<th>Day</th><th></th><th class="n">Requests</th><th class="n">Amount ({escape(invoice.currency)})</th>'
    return f"<h2>By day</h2><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def _sums(share: Share) -> tuple[str, str]:
    return f"{share.requests:,}", exact(share.cost)


def _table(
    kind: str,
    columns: Sequence[str],
    figures: Sequence[str],
    rows: Iterable[tuple[Sequence[str], Sequence[str]]],
    foot: str = "",
) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    head += "".join(f'<th class="n">{escape(name)}</th>' for name in figures)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in words)
        + "".join(f'<td class="n">{escape(cell)}</td>' for cell in numbers)
        + "</tr>\n"
        for words, numbers in rows
    )
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody><tfoot>{foot}</tfoot></table>'


def _last_day(invoice: Invoice) -> str:
    month = month_of(invoice.month)
    return f"{month.name}-{(month.until_s - month.since_s) // 86_400:02d}"

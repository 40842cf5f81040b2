"""``roundhouse usage``: who used how much of what, what GPUs did with their time, and single requests."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.cli.client import find_service
from gateway.cli.errors import AskedWrongly
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import say, show_json, show_table

app = typer.Typer(
    help="Who used how much of what, what it cost, and what GPUs did with their time.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
BEHIND_S = 60.0  # it is always some seconds behind
USES = ("busy", "idle", "starting", "free")
FIGURES = (
    "requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens", "gpu_ns", "start_gpu_ns",
    "memory_kib_ms", "cost",
)  # fmt: skip
HEADS = ("REQUESTS", "ERRORS", "INPUT", "CACHED", "OUTPUT", "GPU-S", "START-S", "GIB-S")

By = Annotated[str, typer.Option("--by", help="Any of tenant, project, key, model, with commas")]
Since = Annotated[str, typer.Option("--since", help="How long ago (24h, 7d), or a date or time in UTC")]
Until = Annotated[str | None, typer.Option("--until", help="The same; default: now", show_default=False)]
Bucket = Annotated[str, typer.Option("--bucket", help="none, hour or day: one row for each")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant", show_default=False)]
OfKey = Annotated[str | None, typer.Option("--key", help="Only of this key, by its id", show_default=False)]
OfModel = Annotated[str | None, typer.Option("--model", help="Only of this model", show_default=False)]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV, with figures in the books' own units.")]


@app.callback()
def default(
    context: typer.Context,
    by: By = "tenant,model",
    since: Since = "24h",
    until: Until = None,
    bucket: Bucket = "none",
    tenant: OfTenant = None,
    project: Annotated[
        str | None, typer.Option("--project", help="Only of projects of this name", show_default=False)
    ] = None,
    key: OfKey = None,
    model: OfModel = None,
    as_csv: AsCsv = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Sums of what was used. The newest minutes are in it once they are settled."""
    if context.invoked_subcommand is not None:
        return
    where = {"tenant": tenant, "project": project, "key": key, "model": model}
    found = _ask(home, "usage", as_csv, json, by=by, since=since, until=until, bucket=bucket, **where)
    if json:
        show_json(found)
        return
    dimensions = (*_when(found), *found["by"])
    if as_csv:
        _show_csv(
            (*dimensions, *FIGURES, "currency"), ({**row, "currency": found["currency"]} for row in found["data"])
        )
        return
    columns = (*(name.upper() for name in _when(found)), *(name.upper() for name in found["by"]), *HEADS)
    rows = [(*_names(row, dimensions), *_figures(row)) for row in found["data"]]
    if len(rows) > 1 and dimensions:
        rows.append(("total", *("" for _ in dimensions[1:]), *_figures(found["total"])))
    show_table((*columns, f"COST ({found['currency']})"), rows, "Nothing was used in that time.")
    _say_until(found)
    for anomaly in found["anomalies"]:
        say(f"Unusual: {anomaly['text']}")


@app.command()
def gpus(
    by: Annotated[
        str, typer.Option("--by", help="Any of gpu, tenant, project, key, model, with commas; each by use")
    ] = "gpu",
    since: Since = "24h",
    until: Until = None,
    bucket: Bucket = "none",
    as_csv: AsCsv = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """What GPUs did with their time: busy with requests, idle with a model, starting one, or free. It is all of it."""
    asked_by = ",".join(dict.fromkeys([*(part for part in by.split(",") if part.strip()), "use"]))
    found = _ask(home, "usage/gpus", as_csv, json, by=asked_by, since=since, until=until, bucket=bucket)
    if json:
        show_json(found)
        return
    if as_csv:
        _show_csv((*_when(found), *found["by"], "ns"), found["data"])
        return
    dimensions = (*_when(found), *(name for name in found["by"] if name != "use"))
    spent: dict[tuple[str, ...], dict[str, int]] = {}
    for row in found["data"]:
        by_use = spent.setdefault(_names(row, dimensions), dict.fromkeys(USES, 0))
        by_use[row["use"]] = by_use.get(row["use"], 0) + row["ns"]
    rows = [(*names, *_uses(by_use)) for names, by_use in spent.items()]
    if len(rows) > 1:
        rows.append(("total", *("" for _ in dimensions[1:]), *_uses(found["total_ns"])))
    columns = (*(name.upper() for name in dimensions), *(f"{use.upper()} S" for use in USES), "ALL S", "BUSY")
    show_table(columns, rows, "No GPU's time is on the books for then.")
    _say_until(found)


@app.command()
def requests(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, counted from the newest")] = 20,
    tenant: OfTenant = None,
    key: OfKey = None,
    model: OfModel = None,
    request: Annotated[str | None, typer.Option("--id", help="Only this one", show_default=False)] = None,
    as_csv: AsCsv = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Single requests with what each used and cost, the newest first."""
    found = _ask(
        home, "usage/requests", as_csv, json, limit=limit, tenant=tenant, key=key, model=model, id=request
    )  # fmt: skip
    if json:
        show_json(found)
        return
    if as_csv:
        plain = [name for name in found["data"][0] if name not in ("runs", "lines")] if found["data"] else []
        _show_csv(plain, found["data"])
        return
    rows = (
        (
            _time_text(each["ended_us"] / 1e6, seconds=True),
            each["id"],
            each["tenant"],
            each["key_id"],
            each["model"],
            f"{each['status']}{' cut' if each['cut'] else ''}",
            f"{'~' if each['estimated'] else ''}{each['prompt_tokens']}",
            each["completion_tokens"],
            f"{each['gpu_ns'] / 1e9:.3f}",
            f"{each['amount']} {each['currency']}",
        )
        for each in found["data"]
    )
    columns = ("ENDED", "ID", "TENANT", "KEY", "MODEL", "STATUS", "INPUT", "OUTPUT", "GPU-S", "COST")
    show_table(columns, rows, "No such request is settled; what was used is on the books some seconds later.")


def _ask(home: HomeFolder, path: str, as_csv: bool, json: bool, **query: object) -> Any:
    if as_csv and json:
        raise AskedWrongly("--csv and --json exclude each other", code="usage", cure="give one of them")
    return find_service(home).get(path, **query)


def _when(found: Mapping[str, Any]) -> tuple[str, ...]:
    return () if found["bucket"] == "none" else (found["bucket"],)


def _names(row: Mapping[str, Any], dimensions: Sequence[str]) -> tuple[str, ...]:
    return tuple(row["at" if name in ("hour", "day") else name] or "" for name in dimensions)


def _figures(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *(f"{row[name]:,}" for name in FIGURES[:5]),
        f"{row['gpu_ns'] / 1e9:,.3f}",
        f"{row['start_gpu_ns'] / 1e9:,.3f}",
        f"{row['memory_kib_ms'] / (1000 << 20):,.3f}",
        row["cost"],
    )


def _uses(by_use: Mapping[str, int]) -> tuple[str, ...]:
    all_ns = sum(by_use.values())
    busy = f"{100 * by_use.get('busy', 0) / all_ns:.1f}%" if all_ns else "-"
    return (*(f"{by_use.get(use, 0) / 1e9:,.3f}" for use in USES), f"{all_ns / 1e9:,.3f}", busy)


def _show_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(columns)
    for row in rows:
        out.writerow(row["at"] if name in ("hour", "day") else row.get(name, "") for name in columns)


def _say_until(found: Mapping[str, Any]) -> None:
    settled = found["settled_until_unix_s"]
    if settled is None:
        say("Nothing was settled yet: is the meter running? roundhouse status says so.")
    elif settled < min(found["until_unix_s"], time.time()) - BEHIND_S:
        say(f"Settled until {_time_text(settled, seconds=True)}; what came later follows.")


def _time_text(unix_s: float, seconds: bool = False) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ" if seconds else "%Y-%m-%d %H:%MZ")

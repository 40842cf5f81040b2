"""``roundhouse invoice``: what a tenant owes for a month, on the screen, as CSV, or as a page to print."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import AdminClient, find_service
from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import say, show_json, show_table, show_text


def invoice(
    tenant: Annotated[str, typer.Argument(help="Its id", show_default=False)],
    month: Annotated[str, typer.Argument(help="Such as 2026-11, in UTC", show_default=False)],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: a row for each project and model.")] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page that can be printed", show_default=False),
    ] = None,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """What a tenant owes for a month. The lines add up to the total exactly; only the amount due is rounded."""
    if as_csv + json + (html is not None) > 1:
        raise AskedWrongly("--csv, --html and --json exclude each other", code="usage", cure="give one of them")
    service, path = find_service(home), f"invoices/{quote(tenant, safe='')}/{quote(month, safe='')}"
    if as_csv:
        print(service.text(path, format="csv"), end="", flush=True)
    elif html is not None:
        _write(service, path, html)
    elif json:
        show_json(service.get(path))
    else:
        _show(service.get(path))


def _write(service: AdminClient, path: str, to: Path) -> None:
    """The whole page, or none."""
    page, part = service.text(path, format="html"), to.with_name(f"{to.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        os.replace(part, to)
    except OSError as problem:
        raise CliError(
            f"{to} cannot be written: {problem.strerror or problem}",
            code="export_failed",
            cure="name a file in a folder that exists and may be written to",
        ) from None
    finally:
        part.unlink(missing_ok=True)
    show_text(str(to))


def _show(found: Mapping[str, Any]) -> None:
    whose = f"{found['name']} ({found['tenant']})" if found["name"] else found["tenant"]
    show_text(f"{whose}, {found['month']}: {found['amount_due']} {found['currency']}")
    rows = [
        (
            line["project"],
            line["model"],
            f"{line['requests']:,}",
            f"{line['input_tokens']:,}",
            f"{line['cached_tokens']:,}",
            f"{line['output_tokens']:,}",
            line["gpu_seconds"],
            line["start_gpu_seconds"],
            line["gib_seconds"],
            line["amount"],
        )
        for line in found["lines"]
    ]
    if len(rows) > 1:
        rows.append(("total", *[""] * 8, found["total"]))
    columns = (
        "PROJECT", "MODEL", "REQUESTS", "INPUT", "CACHED", "OUTPUT", "GPU-S", "START-S", "GIB-S",
        f"AMOUNT ({found['currency']})",
    )  # fmt: skip
    show_table(columns, rows, "Nothing was used in that month.")
    if not found["final"]:
        say("It is not final: the month is not over, or not all of it is settled yet.")

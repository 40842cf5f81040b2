"""Data to stdout, words to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

# Where nobody sees the edge of a screen, no column is cut.
UNSEEN_WIDTH = 240


def show_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False), flush=True)


def show_json_line(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """To people, beside the data."""
    print(text, file=sys.stderr, flush=True)


def show_text(text: str) -> None:
    print(text, flush=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """``empty`` is said when there are no rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if cell is None or cell == "" else str(cell)) for cell in row))
    if table.row_count == 0:
        say(empty)
        return
    console = Console(width=None if sys.stdout.isatty() else UNSEEN_WIDTH, highlight=False)
    console.print(table)


def bytes_text(size_bytes: int | None) -> str:
    from models.catalog.units import format_bytes

    return "-" if size_bytes is None else format_bytes(size_bytes)


def age_text(seconds: float | None) -> str:
    """``42s``, ``7m``, ``3h``, ``2d``: how long ago or for how long."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= unit_s:
            return f"{whole // unit_s}{unit}"
    return f"{whole}s"

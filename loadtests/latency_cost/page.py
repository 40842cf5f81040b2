"""A Markdown page with tables whose rows are measured: each stands between two comments with its name, and under it
how it came about. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence


class PageError(ValueError):
    """The page has no place for these rows."""


def filled(page: str, name: str, rows: Sequence[Sequence[str]], note: str = "") -> str:
    """With these rows under the table's heading and ``note`` after them, in place of those that were there.

    Raises PageError.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    found = re.search(f"{re.escape(begin)}\n(.*?){re.escape(end)}\n", page, re.DOTALL)
    if found is None:
        raise PageError(f"the page has no table between {begin} and {end}")
    heading = found[1].splitlines()[:2]
    if len(heading) < 2 or not all(line.startswith("|") for line in heading):
        raise PageError(f"the table of {name} has no heading")
    columns = heading[0].count("|") - 1
    if wrong := [row for row in rows if len(row) != columns]:
        raise PageError(f"the table of {name} has {columns} columns, not {len(wrong[0])}")
    lines = [*heading, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)]
    if note:
        lines += ["", note]
    whole = "\n".join(lines)
    return f"{page[: found.start()]}{begin}\n{whole}\n{end}\n{page[found.end() :]}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

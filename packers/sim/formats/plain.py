"""Plain CSV: ``time,model`` and, where known, ``service_s``, ``input_tokens`` and ``output_tokens``.

``time``: seconds, or a date and time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from packers.sim.formats.rows import Columns, table
from packers.sim.trace import Trace

NEEDS = ("time", "model")


def read(lines: Iterable[str], name: str, known: Collection[str] | None = None) -> Trace:
    """Raises TraceError."""
    columns = Columns(name, "time", "model", known)
    for row in table(lines, name, NEEDS):
        columns.add(
            row,
            row.moment("time"),
            row.text("model"),
            row.number("service_s", 0.0),
            row.whole("input_tokens", 0),
            row.whole("output_tokens", 0),
        )
    return columns.trace()

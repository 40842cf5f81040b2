"""What the gateways record of their own traffic: JSONL, one object per request.

``{"at_unix_s": 1700000000.25, "model": "tiny-llama", "input_tokens": 12, "output_tokens": 64, "service_s": 1.75}``

``at_unix_s``: its arrival; ``service_s``: from its turn at a replica to its end; 0 or absent where not known, as the
tokens are. Requests are written when they end and by several workers: here alone, times may come in any order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from packers.sim.formats.rows import Columns, objects
from packers.sim.trace import Trace

NEEDS = ("at_unix_s", "model")


def read(lines: Iterable[str], name: str, known: Collection[str] | None = None) -> Trace:
    """Raises TraceError."""
    columns = Columns(name, "at_unix_s", "model", known, sorts=True)
    for row in objects(lines, name):
        columns.add(
            row,
            row.number("at_unix_s"),
            row.text("model"),
            row.number("service_s", 0.0),
            row.whole("input_tokens", 0),
            row.whole("output_tokens", 0),
        )
    return columns.trace()

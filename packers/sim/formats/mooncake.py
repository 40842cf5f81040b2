"""Mooncake traces (kvcache-ai/Mooncake): one model, JSONL with milliseconds, input and output length.

``hash_ids`` name the blocks of 512 tokens that a prompt consists of; each id stands for all that was before it too.
"""

from __future__ import annotations

from collections.abc import Iterable

from packers.sim.formats.rows import Columns, objects
from packers.sim.trace import Trace

NEEDS = ("timestamp", "input_length", "output_length")


def read(lines: Iterable[str], name: str, model: str) -> Trace:
    """Raises TraceError."""
    columns = Columns(name, "timestamp", "model")
    for row in objects(lines, name):
        tokens = row.whole("input_length"), row.whole("output_length")
        columns.add(row, row.number("timestamp") / 1000, model, 0.0, *tokens, row.wholes("hash_ids"))
    return columns.trace()

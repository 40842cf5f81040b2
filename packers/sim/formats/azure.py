"""Azure LLM inference traces 2023 and 2024 (AzurePublicDataset): one model, context and generated tokens."""

from __future__ import annotations

from collections.abc import Iterable

from packers.sim.formats.rows import Columns, table
from packers.sim.trace import Trace

NEEDS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read(lines: Iterable[str], name: str, model: str) -> Trace:
    """Raises TraceError."""
    columns = Columns(name, "TIMESTAMP", "model")
    for row in table(lines, name, NEEDS):
        tokens = row.whole("ContextTokens"), row.whole("GeneratedTokens")
        columns.add(row, row.moment("TIMESTAMP"), model, 0.0, *tokens)
    return columns.trace()

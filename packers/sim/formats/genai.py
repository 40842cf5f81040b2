"""cluster-trace-v2026-GenAI (alibaba/clusterdata): image generation with model ids and execution times."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from packers.sim.formats.rows import Columns, table
from packers.sim.trace import Trace

NEEDS = ("time", "model_id", "exec_time_s")


def read(lines: Iterable[str], name: str, known: Collection[str] | None = None) -> Trace:
    """Raises TraceError. A request without an execution time has service time 0: not known."""
    columns = Columns(name, "time", "model_id", known)
    for row in table(lines, name, NEEDS):
        columns.add(row, row.moment("time"), row.text("model_id"), row.number("exec_time_s", 0.0))
    return columns.trace()

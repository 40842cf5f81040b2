"""Rows for tests, in milliseconds."""

from __future__ import annotations

from typing import Any

from loadtests.outcome.rows import Row


def row(
    at_ms: float = 0.0, *, late_ms: float = 0.0, ttft_ms: float | None = 50.0,
    gaps_ms: tuple[float, ...] = (10.0, 10.0),
    e2e_ms: float = 100.0, closed: bool = False, **fields: Any,
) -> Row:  # fmt: skip
    """Due at ``at_ms``, answered so long after."""
    due = round(at_ms * 1e3)
    first = None if ttft_ms is None else due + round(ttft_ms * 1e3)
    given: dict[str, Any] = {
        "scheduled_us": None if closed else due,
        "sent_us": due + round(late_ms * 1e3),
        "connect_us": None,
        "first_byte_us": first,
        "first_token_us": first,
        "end_us": due + round(e2e_ms * 1e3),
        "gaps_us": [round(gap * 1e3) for gap in gaps_ms] if ttft_ms is not None else [],
        "input_tokens": 8,
        "output_tokens": len(gaps_ms) + 1,
        "stream": True,
        "status": 200,
        "phase": 0,
        "turn": 1,
        "worker": 0,
        "model": "m",
        "dialect": "chat",
    }
    return Row(**given | fields)

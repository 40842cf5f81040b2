"""The facts of one request as they become known; the log line and the metrics are made from them."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_MODEL = "unknown"
OTHER_ENDPOINT = "other"


@dataclass(slots=True)
class Exchange:
    """``started_s`` is of the monotonic clock; all other times are seconds since then or durations."""

    request_id: str
    method: str
    path: str
    started_s: float
    endpoint: str = OTHER_ENDPOINT
    model: str = UNKNOWN_MODEL  # the catalog's name, never what a caller made up
    stream: bool = False
    replica: str | None = None
    status: int = 0
    code: str | None = None  # of the error that was answered
    held: bool = False
    hold_s: float = 0.0
    first_byte_s: float | None = None
    retries: int = 0
    client_gone: bool = False
    broken: bool = False  # the engine went away after the first byte

"""The facts of one request as they become known; the log line, the metrics and the spans are made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNKNOWN_MODEL = "unknown"
OTHER_ENDPOINT = "other"


@dataclass(slots=True)
class Usage:
    """Tokens as the engine counted them. ``cached``: those of the prompt that it did not have to compute."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


@dataclass(init=False)
class Exchange:
    """``started_s`` is of the monotonic clock; all other times are seconds since then or durations.

    A held request waits either for a place on a busy replica (``queue_s``) or for its model to start (``wake_s``);
    ``hold_s`` is both. ``engine_s``: from the request's last byte out to the engine's first byte of the answer,
    of a stream to its first event.
    """

    request_id: str
    method: str
    path: str
    started_s: float
    endpoint: str = OTHER_ENDPOINT
    model: str = UNKNOWN_MODEL  # the catalog's name, never what a caller made up
    address: str = ""  # of the caller; empty where this process itself asks
    key_id: str = ""  # empty while nobody was recognised
    tenant: str = ""
    project: str = ""
    stream: bool = False
    replica: str | None = None
    status: int = 0
    code: str | None = None  # of the error that was answered
    held: bool = False
    auth_s: float = 0.0
    queue_s: float = 0.0
    wake_s: float = 0.0
    connect_s: float = 0.0
    engine_s: float = 0.0
    first_byte_s: float | None = None
    retries: int = 0
    client_gone: bool = False
    broken: bool = False  # the engine went away after the first byte
    usage: Usage | None = None
    request_bytes: int = 0
    answer_bytes: int = 0
    traceparent: str | None = None  # W3C, as sent on to the engine
    metered: bool = False  # its usage event is written

    def __init__(self, request_id: str, method: str, path: str, started_s: float, **facts: Any) -> None:
        """A request sets only what it comes to know: what it does not is looked up on the class."""
        self.request_id = request_id
        self.method = method
        self.path = path
        self.started_s = started_s
        if facts:
            unknown = facts.keys() - self.__dataclass_fields__.keys()
            if unknown:
                raise TypeError(f"an exchange has no {', '.join(sorted(unknown))}")
            self.__dict__.update(facts)

    @property
    def hold_s(self) -> float:
        return self.queue_s + self.wake_s

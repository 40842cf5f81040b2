"""One call: what is asked, and what its caller saw of the answer. Times are seconds of CLOCK_MONOTONIC."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

# What befell a call that the server did not name itself.
CONNECT_FAILED, CONNECTION_LOST, TIMEOUT = "connect_failed", "connection_lost", "timeout"
STREAM_BROKEN, UNFINISHED, NO_DESCRIPTORS = "stream_broken", "unfinished", "no_descriptors"


@dataclass(frozen=True, slots=True)
class Ask:
    """``dialect``: a name of ``loadtests.client.dialects.DIALECTS``. ``keep_text``: the answer's words are wanted."""

    model: str
    dialect: str
    body: bytes = field(repr=False)
    stream: bool = True
    key: str = field(default="", repr=False)
    keep_text: bool = False


@dataclass(slots=True, eq=False)
class Call:
    """``scheduled_s``: when it was due, of an open load; latencies count from then, else from ``sent_s``.

    ``head_s``: of the answer's head, ``first_byte_s`` of its body, ``token_times_s`` of each event that carries text.
    ``timing_ms``: the parts of the answer's Server-Timing header. ``error``: "" when it was answered as it should be,
    else OpenAI's code, or one of those above.
    """

    ask: Ask
    scheduled_s: float | None = None
    sent_s: float = 0.0
    connect_s: float | None = None
    head_s: float | None = None
    first_byte_s: float | None = None
    token_times_s: list[float] = field(default_factory=list)
    ended_s: float | None = None
    status: int = 0
    error: str = ""
    message: str = ""
    finish_reason: str | None = None
    closed: bool = False  # the dialect's own end of a stream was seen
    input_tokens: int | None = None
    output_tokens: int | None = None
    timing_ms: dict[str, float] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    @property
    def begun_s(self) -> float:
        return self.sent_s if self.scheduled_s is None else self.scheduled_s

    @property
    def ttft_s(self) -> float | None:
        return self.token_times_s[0] - self.begun_s if self.token_times_s else None

    @property
    def gaps_s(self) -> list[float]:
        """Between neighbouring events that carry text."""
        return [later - earlier for earlier, later in pairwise(self.token_times_s)]

    def fail(self, error: str, message: str) -> None:
        """The first failure counts."""
        if not self.error:
            self.error, self.message = error, message

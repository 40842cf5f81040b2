"""One request, and what the gateway says its answer cost (``Server-Timing``)."""

from __future__ import annotations

import http.client
import json
import re
import time
from dataclasses import dataclass

from loadtests.chat import CHAT_PATH, ChatRequest
from loadtests.target import Target
from loadtests.wire import CallFailed, connection, headers, refusal

TIMEOUT_S = 130.0
PROMPT = "Tell me of the railway."
_PART = re.compile(r"([a-z-]+);dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """``wait_s``: until a replica took it; ``started_s`` of that: for its model to start or wake. ``total_s``: from
    sending to the end of the answer. ``error``: what was said instead of an answer."""

    model: str
    at_s: float
    late_s: float
    wait_s: float = 0.0
    started_s: float = 0.0
    total_s: float = 0.0
    error: str = ""

    @property
    def delayed(self) -> bool:
        """It came while no replica of its model was ready."""
        return self.started_s > 0

    @property
    def service_s(self) -> float:
        return max(0.0, self.total_s - self.wait_s)


def ask(target: Target, model: str, tokens: int, *, at_s: float = 0.0, late_s: float = 0.0) -> Answer:
    """Never raises: what goes wrong is in ``error``."""
    body = json.dumps(ChatRequest(model, PROMPT, tokens, whole_length=True).body(stream=False)).encode()
    link = connection(target, TIMEOUT_S)
    began_s = time.monotonic()
    try:
        link.request("POST", CHAT_PATH, body, headers(target, admin=False))
        answer = link.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise refusal(answer.status, content)
        parts = timing(answer.getheader("server-timing") or "")
    except (CallFailed, OSError, http.client.HTTPException) as problem:
        return Answer(model, at_s, late_s, total_s=time.monotonic() - began_s, error=str(problem) or "cut off")
    finally:
        link.close()
    wake_s = parts.get("wake", 0.0)
    wait_s = parts.get("queue", 0.0) + wake_s
    return Answer(model, at_s, late_s, wait_s, wake_s, time.monotonic() - began_s)


def timing(header: str) -> dict[str, float]:
    """Seconds by name."""
    return {name: float(value) / 1e3 for name, value in _PART.findall(header)}

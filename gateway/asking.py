"""Asking a model from inside the gateway: as a caller would, through admission and routing, without a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.inquiry import Caller

BACKGROUND = -10  # priority of what nobody waits for: whatever somebody waits for goes first


class Answer(Protocol):
    """``head``: header lines, each ended by CRLF. ``body``: the whole of it, an error's too."""

    @property
    def status(self) -> int: ...

    @property
    def head(self) -> bytes: ...

    @property
    def body(self) -> bytes: ...

    @property
    def request_id(self) -> str: ...


class Ask(Protocol):
    """``gateway.plane.inprocess.ask``. Cancelling it takes the request back from the engine. Raises CutOff."""

    async def __call__(self, path: str, body: bytes, caller: Caller, *, priority: int) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """In place of an answer, where there was none."""

    code: str
    message: str


def header(answer: Answer, name: bytes) -> bytes | None:
    """``name`` in lower case."""
    for line in answer.head.split(b"\r\n"):
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return None

"""The control wire's lines: one JSON object each, at most LINE_LIMIT_BYTES long."""

from __future__ import annotations

from typing import Literal

import msgspec

from models.runtimes.protocol import EngineOrder, EngineReply, EngineStatus, LauncherStatus, Refusal

LINE_LIMIT_BYTES = 1 << 20

Operation = Literal["status", "renew", "sleep", "wake", "stop"]


class ControlRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an owner sends on a control connection.

    ``drain_s``, of ``sleep`` and ``stop``: how long what is in flight may go on before it is cut; None: as usual.
    """

    seq: int
    op: Operation
    drain_s: float | None = None


class LauncherRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody sends to the launcher; ``order`` belongs to ``start``."""

    op: Literal["start", "ping", "quit", "recycle"]
    order: EngineOrder | None = None


class _Shape(msgspec.Struct):
    """Just enough of a line to tell which message it is."""

    seq: int | None = None
    refused: str | None = None


Message = EngineStatus | EngineReply | LauncherStatus | Refusal | ControlRequest | LauncherRequest


def encode(message: Message) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def decode_control(line: bytes) -> ControlRequest:
    """Raises msgspec.ValidationError or msgspec.DecodeError."""
    return msgspec.json.decode(line, type=ControlRequest)


def decode_launcher(line: bytes) -> LauncherRequest:
    """Raises msgspec.ValidationError or msgspec.DecodeError, both naming the field."""
    return msgspec.json.decode(line, type=LauncherRequest)


def decode_from_engine(line: bytes) -> EngineStatus | EngineReply | Refusal:
    """A line that an engine (or, before it exists, the launcher) sent to an owner. Raises msgspec.DecodeError."""
    shape = msgspec.json.decode(line, type=_Shape)
    if shape.refused is not None:
        return msgspec.json.decode(line, type=Refusal)
    if shape.seq is not None:
        return msgspec.json.decode(line, type=EngineReply)
    return msgspec.json.decode(line, type=EngineStatus)

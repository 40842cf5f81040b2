"""What the launcher and its zygote tell each other: one JSON object a message, on a SOCK_SEQPACKET pair."""

from __future__ import annotations

import socket

import msgspec

from models.runtimes.sockets import receive_with, send_with

LONGEST_BYTES = 1 << 16


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Launcher -> zygote; the only wish there is. It ends when the launcher hangs up."""


class Warming(msgspec.Struct, frozen=True, tag="warming"):
    """It goes on: ``name`` (as in the recipe) is being imported or warmed."""

    name: str
    step: str  # for people
    states: dict[str, str]  # runtime -> version, or "unavailable: why"


class Warm(msgspec.Struct, frozen=True, tag="warm"):
    """All is warmed and no thread is left that a fork would lose."""

    states: dict[str, str]
    paths: dict[str, str]  # see LauncherStatus
    warm_s: float


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """``name`` cannot be warmed and has a fallback. What is left in this process is not to be trusted: it ends."""

    name: str
    why: str


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """A spare; the launcher's end of its channel comes along."""

    pid: int


class NotForked(msgspec.Struct, frozen=True, tag="not_forked"):
    why: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A child is gone; ``wait_status`` as waitpid gives it."""

    pid: int
    wait_status: int


FromZygote = Warming | Warm | Broken | Forked | NotForked | Ended


def send(channel: socket.socket, message: FromZygote | Fork, carried: socket.socket | None = None) -> None:
    """Raises OSError when the other side is gone."""
    send_with(channel, msgspec.json.encode(message), () if carried is None else (carried.fileno(),))


def receive(channel: socket.socket) -> tuple[FromZygote, socket.socket | None] | None:
    """In the launcher. None when the zygote has hung up. Raises BlockingIOError, OSError, msgspec.DecodeError."""
    line, descriptors = receive_with(channel, LONGEST_BYTES, 1)
    if not line:
        return None
    carried = socket.socket(fileno=descriptors[0]) if descriptors else None
    return msgspec.json.decode(line, type=FromZygote), carried

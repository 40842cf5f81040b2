"""Replicas that live in one process per device: which they are, whose process it is, and what it tells the launcher.

One process means one CUDA context and one set of libraries for all of them, and no isolation: whatever ends the
process ends every replica in it. ``engine_args: {process: shared}`` asks for it.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Literal, NewType

from models.runtimes.protocol import Device, EngineOrder

RUNTIMES = ("torch",)  # whose models may share a process
LONGEST_NOTE_BYTES = 4096

SharedDevice = NewType("SharedDevice", str)

# Told to the launcher on the process's channel, with the replica's control path behind it.
Note = Literal["greeted", "ended"]
_BYTES: dict[Note, bytes] = {"greeted": b"g", "ended": b"e"}
_NOTES: dict[bytes, Note] = {byte: note for note, byte in _BYTES.items()}


def shares_process(order: EngineOrder) -> bool:
    """Whether the replica lives with others; nobody may kill its process to end it alone."""
    return order.runtime in RUNTIMES and order.engine_args.get("process") == "shared"


def shared_device(device: Device) -> SharedDevice:
    """Equal for all replicas of one device, and fit to be a part of a file's name."""
    named = f"{device.kind}-{device.uuid or device.id or 'any'}"
    return SharedDevice(re.sub(r"[^A-Za-z0-9-]+", "-", named))


def process_log(order: EngineOrder, pid: int) -> str:
    """Where the process itself writes what belongs to no single replica: C libraries, crashes, stray threads."""
    return str(Path(order.log_path).parent / f"shared-{shared_device(order.device)}-{pid}.log")


def tell(channel: socket.socket, note: Note, control_path: str) -> None:
    """Raises OSError when the launcher is gone."""
    channel.send(_BYTES[note] + os.fsencode(control_path), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def read_note(message: bytes) -> tuple[Note, str] | None:
    """None for what is no note."""
    note = _NOTES.get(message[:1])
    return None if note is None else (note, os.fsdecode(message[1:]))

"""How a spool lies on disk. Pure, but for the list of its segments.

A spool is the folder of one worker, ``spool/<worker>/``:

| file | holds |
| --- | --- |
| lock | nothing; the worker has it locked (flock) while it lives |
| state | STATE: which format, how far the table of open requests is true, about where the log ends |
| 000000000000.log ... | the log: HEADER, then frames; what was never written is zero |
| coming | the next one, while it is made |
| 000000000007.last.log | the last one, written when the worker had ended |
| 0000.open ... | the table of open requests: slots of SLOT_BYTES |

A frame is FRAME (length and CRC-32 of what follows), then that: a kind and its content (``gateway.metering.frames``).
It goes into the mapped file in one copy. A process that is killed leaves at most the last frame unfinished, which its
CRC tells; whatever was written before survives it. A segment begins anew with the texts that its events name.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

FORMAT = 1
SEGMENT_BYTES = 4 << 20
HEADER = struct.Struct("<8sII")
MAGIC = b"rh-usage"
FRAME = struct.Struct("=II")
FIRST = HEADER.size
PLACE_BITS = 32
COMING = "coming"
LOCK = "lock"
STATE_NAME = "state"

STATE_BYTES = 4096
STATE = struct.Struct("<8sII")
UNTIL_WORD = 2  # the same words as 64 bits each: microseconds of Unix time
END_WORD = 3

SLOT_BYTES = 4096
SLOTS = 64  # in a file
SLOT_WORDS = 8  # 64 bits each: which of its two records is good, tokens so far; the rest is to spare
RECORD_BYTES = (SLOT_BYTES - SLOT_WORDS * 8) // 2


class Segment(NamedTuple):
    number: int
    path: Path
    last: bool


def offset_of(segment: int, place: int) -> int:
    """Whole numbers below 2**53, so that Lua has them exactly: for two million segments."""
    return segment << PLACE_BITS | place


def place_of(offset: int) -> tuple[int, int]:
    """Segment, place in it."""
    return offset >> PLACE_BITS, offset & ((1 << PLACE_BITS) - 1)


def log_name(number: int, *, last: bool = False) -> str:
    return f"{number:012d}{'.last' if last else ''}.log"


def table_name(number: int) -> str:
    return f"{number:04d}.open"


def segments_of(folder: Path) -> list[Segment]:
    """By number. Raises OSError."""
    found = []
    for path in folder.iterdir():
        stem, _, rest = path.name.partition(".")
        if stem.isdigit() and rest in ("log", "last.log"):
            found.append(Segment(int(stem), path, rest == "last.log"))
    return sorted(found)


def header(kind: bytes = MAGIC) -> bytes:
    return HEADER.pack(kind, FORMAT, 0)

"""The decision record as a file: one JSON object a line, the oldest first, put aside and packed when it is large.

``decisions.jsonl`` is the one that is written to; ``decisions-20261122T093011-000.jsonl.gz`` are earlier ones. A line
that was cut off when the machine died is taken away before the next one is written.
"""

from __future__ import annotations

import datetime
import gzip
import logging
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from models.store.records import DecisionRecord

BEGINNING = "0-0"
TAIL_BYTES = 1 << 20  # longer than any line
_STREAM_ID = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)
log = logging.getLogger("roundhouse.control")


class _Id(msgspec.Struct):
    id: str


class DecisionFile:
    """``rotate_bytes``: put aside when it is as large as that; ``keep``: how many of those. All methods may raise
    OSError, and block."""

    def __init__(self, path: Path, rotate_bytes: int, keep: int) -> None:
        self.path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep

    def last(self) -> str:
        """The id of the last decision that is in it, or in the one put aside last: what follows is still to be written.
        ``0-0`` where there is none."""
        found = self._last_line() or next(filter(None, map(_last_packed, reversed(self.aside()))), None)
        try:
            known = BEGINNING if found is None else msgspec.json.decode(found, type=_Id).id
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return BEGINNING  # somebody else wrote it: what is added now has lines of its own
        return known if _STREAM_ID.fullmatch(known) else BEGINNING

    def append(self, decisions: Sequence[DecisionRecord]) -> None:
        """Whole lines or, where the disk is full, none of the last one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._mend()
        if decisions and self._size() >= self._rotate_bytes:
            self._put_aside(decisions[0].at_unix_s)
        with self.path.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(each) + b"\n" for each in decisions))

    def aside(self) -> list[Path]:
        """The ones put aside, the oldest first."""
        return sorted(self.path.parent.glob(f"{self.path.stem}-*{self.path.suffix}.gz"))

    def _named(self, at: str, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}-{at}-{number:03d}{self.path.suffix}.gz")

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _last_line(self) -> bytes | None:
        size = self._size()
        if not size:
            return None
        with self.path.open("rb") as file:
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        return whole[-1] if whole else None

    def _mend(self) -> None:
        """Take away what follows the last end of a line."""
        size = self._size()
        if not size:
            return
        with self.path.open("rb+") as file:
            file.seek(max(0, size - TAIL_BYTES))
            cut = len(file.read().rpartition(b"\n")[2])
            if cut:
                file.truncate(size - cut)

    def _put_aside(self, at_unix_s: float) -> None:
        at = datetime.datetime.fromtimestamp(at_unix_s, datetime.UTC).strftime("%Y%m%dT%H%M%S")
        number = 0
        while (target := self._named(at, number)).exists():  # two in one second
            number += 1
        part = target.with_name(f"{target.name}.part")
        with self.path.open("rb") as plain, gzip.open(part, "wb") as packed:
            shutil.copyfileobj(plain, packed)
        os.replace(part, target)
        self.path.unlink()
        for old in self.aside()[: -self._keep] if self._keep else self.aside():
            old.unlink(missing_ok=True)


def _last_packed(path: Path) -> bytes | None:
    """Its last line; None for one that was not on the disk yet when the machine died."""
    try:
        with gzip.open(path, "rb") as file:
            lines = file.read().splitlines()
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        log.warning("%s cannot be unpacked, so what it held is written again: %s", path, problem)
        return None
    return lines[-1] if lines else None

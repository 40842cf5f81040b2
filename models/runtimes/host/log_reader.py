"""Reads logs that others are writing: their last lines, several together in the order of time, and what comes next."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from models.runtimes.host.crashes import clean
from models.runtimes.host.engine_log import HEAD_MARK, OLDER, SUFFIX, LogHead, read_head
from models.runtimes.host.log_times import time_of

LONGEST_LINE_BYTES = 8192
MOST_FILES = 64  # of one model, the newest
BLOCK_BYTES = 1 << 18
MOST_AT_ONCE_BYTES = 4 << 20  # of one file, at one look


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """``source``: the replica or the part that wrote it. ``at_unix_s``: when, null where nobody says."""

    source: str
    text: str
    at_unix_s: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A log that may be read: the file that is written now; what was in it before is beside it."""

    name: str
    path: Path


def engine_logs(folder: Path, model_id: str) -> list[Source]:
    """The logs of a model's replicas on this machine, of those that are gone too; the newest last."""
    found: list[tuple[float, Source]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            head = read_head(path) if entry.name.endswith(SUFFIX) else None
            if head is not None and head.model_id == model_id:
                found.append((head.started_unix_s, Source(head.replica_id, path)))
    found.sort(key=lambda pair: (pair[0], pair[1].name))
    return [source for _, source in found[-MOST_FILES:]]


def last_lines(
    sources: Iterable[Source],
    most: int,
    since_unix_s: float | None = None,
    ends: Mapping[Path, int] | None = None,
) -> list[LogLine]:
    """The last ``most`` lines of all the logs together, the oldest first; none from before ``since_unix_s``.

    ``ends``: where a file ends for this purpose, because a Follower goes on from there.
    """
    lines: list[tuple[float, LogLine]] = []
    for source in sources:
        latest = 0.0
        for line in _tail(source, most, (ends or {}).get(source.path)):
            latest = max(latest, line.at_unix_s or 0.0)
            if since_unix_s is None or latest >= since_unix_s:
                lines.append((latest, line))
    lines.sort(key=lambda pair: pair[0])  # keeps the order within each log
    return [line for _, line in lines[len(lines) - most :]] if most < len(lines) else [line for _, line in lines]


def _tail(source: Source, most: int, end: int | None) -> list[LogLine]:
    raw: list[bytes] = []
    for path, until in ((source.path, end), (Path(str(source.path) + OLDER), None)):
        if len(raw) < most:
            with contextlib.suppress(OSError), path.open("rb") as file:
                raw = _last_raw_lines(file, most - len(raw), until) + raw
    reader = _Reader(source.name)
    # What stands before the first line that has a time was written at about that time.
    lines = [line for each in raw if (line := reader.line(each)) is not None]
    first = next((line.at_unix_s for line in lines if line.at_unix_s is not None), None)
    return [msgspec.structs.replace(line, at_unix_s=first) if line.at_unix_s is None else line for line in lines]


def _last_raw_lines(file: BinaryIO, most: int, end: int | None) -> list[bytes]:
    """Read backwards, a block at a time."""
    size = file.seek(0, os.SEEK_END)
    end = size if end is None else min(end, size)
    data = b""
    while end > 0 and data.count(b"\n") <= most and len(data) < MOST_AT_ONCE_BYTES:
        begin = max(0, end - BLOCK_BYTES)
        file.seek(begin)
        data = file.read(end - begin) + data
        end = begin
    lines = data.split(b"\n")
    if end > 0:
        lines.pop(0)  # begun in the middle
    if lines and not lines[-1]:
        lines.pop()
    return lines[-most:]


class _Reader:
    """Turns the raw lines of one log into lines with a time: their own, or that of the line before."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._at_unix_s: float | None = None

    def line(self, raw: bytes) -> LogLine | None:
        """None for an empty one."""
        if raw.startswith(HEAD_MARK):
            with contextlib.suppress(msgspec.DecodeError):
                head = msgspec.json.decode(raw[1:], type=LogHead)
                self._at_unix_s = self._at_unix_s or head.started_unix_s
                text = f"-- {head.replica_id}: model {head.model_id}, runtime {head.runtime}, process {head.pid}"
                return LogLine(source=self._name, text=text, at_unix_s=self._at_unix_s)
        text = clean(raw[:LONGEST_LINE_BYTES].decode(errors="replace")).rstrip()
        if not text:
            return None
        self._at_unix_s = time_of(text, datetime.now(UTC)) or self._at_unix_s
        return LogLine(source=self._name, text=text, at_unix_s=self._at_unix_s)


def _after_last_line(file: BinaryIO) -> int:
    """Behind the last line that is whole."""
    size = file.seek(0, os.SEEK_END)
    begin = file.seek(max(0, size - LONGEST_LINE_BYTES))
    last = file.read(size - begin).rfind(b"\n")
    return size if last < 0 and begin > 0 else begin + last + 1


class Follower:
    """What is written to logs from now on, also to the files that take their places."""

    def __init__(self) -> None:
        self._open: dict[Path, _Followed] = {}

    def follow(self, sources: Iterable[Source], *, from_the_beginning: bool) -> None:
        """Take these up as well; those that are followed already go on."""
        for source in sources:
            if source.path not in self._open:
                self._open[source.path] = _Followed(source, from_the_beginning)

    def ends(self) -> dict[Path, int]:
        """Of each file that is followed from its end on: where that was."""
        return {path: followed.began_at for path, followed in self._open.items() if followed.began_at is not None}

    def new_lines(self) -> list[LogLine]:
        """In the order of each log; those of different logs as they were found."""
        return [line for followed in self._open.values() for line in followed.new_lines()]

    def close(self) -> None:
        for followed in self._open.values():
            followed.close()


class _Followed:
    def __init__(self, source: Source, from_the_beginning: bool) -> None:
        self._path = source.path
        self._reader = _Reader(source.name)
        self._file: BinaryIO | None = None
        self._pending = b""
        self._begin_at_end = not from_the_beginning
        self.began_at: int | None = None
        if self._begin_at_end:
            self._open()

    def new_lines(self) -> Iterator[LogLine]:
        if self._file is None and not self._open():
            return
        yield from self._read()
        if self._was_turned_over():
            yield from self._read(to_the_end=True)  # what was written in between
            self.close()
            if self._open():
                yield from self._read()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        try:
            self._file = self._path.open("rb")
        except OSError:
            return False
        if self._begin_at_end:
            self.began_at = self._file.seek(_after_last_line(self._file))
        self._begin_at_end = False
        return True

    def _was_turned_over(self) -> bool:
        assert self._file is not None
        try:
            return os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino
        except OSError:  # deleted: there is no more to come from it
            return False

    def _read(self, *, to_the_end: bool = False) -> Iterator[LogLine]:
        assert self._file is not None
        data = self._pending + self._file.read(MOST_AT_ONCE_BYTES)
        lines = deque(data.split(b"\n"))
        self._pending = lines.pop()
        if to_the_end or len(self._pending) > LONGEST_LINE_BYTES:  # an endless line is shown in pieces
            lines.append(self._pending)
            self._pending = b""
        for raw in lines:
            if (line := self._reader.line(raw)) is not None:
                yield line

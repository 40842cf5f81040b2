"""What is finished of a batch, on disk: one line as soon as it is known, read back after whatever ended the process.

Each process that works on a batch appends to a journal of its own. Even two that work on it at the same time (one was
stopped, its lease ended, and it went on) spoil nothing: of a line that is finished twice, the files get one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gateway.batches.results import Result

_RESULTS = msgspec.json.Decoder(Result)
_SUFFIX = ".journal"

Write = Callable[[int, bytes], int]  # os.write; a test's own ends the process at any byte


@dataclass(slots=True)
class Finished:
    """Numbers of lines. ``places``: where their results are: journal, offset, length."""

    completed: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    places: dict[int, tuple[Path, int, int]] = field(default_factory=dict)

    def __contains__(self, number: int) -> bool:
        return number in self.places

    def add(self, result: Result, place: tuple[Path, int, int]) -> None:
        if result.n not in self.places:
            self.places[result.n] = place
            (self.completed if result.ok else self.failed).add(result.n)


class Journal:
    """The journal of this process for one batch. Raises OSError everywhere."""

    def __init__(self, folder: Path, token: str, write: Write = os.write) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.finished = read_all(folder)
        self._write = write
        self._path = folder / f"{token}{_SUFFIX}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = 0

    def append(self, result: Result) -> None:
        """When this returns the result outlives this process."""
        line = msgspec.json.encode(result) + b"\n"
        start, left = self._end, line
        while left:
            left = left[self._write(self._file, left) :]
        self._end += len(line)
        self.finished.add(result, (self._path, start, len(line)))

    def close(self) -> None:
        os.close(self._file)


def read_all(folder: Path) -> Finished:
    """A line that was cut off by the end of its process counts for nothing."""
    finished = Finished()
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        offset = 0
        with path.open("rb") as file:
            for line in file:
                try:
                    if line.endswith(b"\n"):
                        finished.add(_RESULTS.decode(line), (path, offset, len(line)))
                except msgspec.DecodeError:
                    pass  # after a power failure: asked for again
                offset += len(line)
    return finished


def results(finished: Finished, numbers: set[int]) -> Iterator[bytes]:
    """The lines for the output or the error file, in the order of the input. Raises OSError."""
    files = {path: path.open("rb") for path in {finished.places[number][0] for number in numbers}}
    try:
        for number in sorted(numbers):
            path, offset, length = finished.places[number]
            files[path].seek(offset)
            yield bytes(_RESULTS.decode(files[path].read(length)).text) + b"\n"
    finally:
        for file in files.values():
            file.close()


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)

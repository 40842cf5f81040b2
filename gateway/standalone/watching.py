"""Notices that a file changed, and remembers it as it was when it last was right."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from models.catalog.errors import ConfigError

T = TypeVar("T")
Fingerprint = tuple[int, int, int]
GONE: Fingerprint = (-1, -1, -1)


class WatchedFile(Generic[T]):
    """``read`` makes of the file what is wanted; it raises ConfigError. ``memory``: a folder for the last right state.

    A change counts once two looks in a row saw the same file: somebody may be in the middle of writing, and the first
    half of a YAML list is a valid, shorter list. What was read once is not read again before it changes, even if it
    could not be taken.
    """

    def __init__(self, path: Path, read: Callable[[Path], T], memory: Path | None = None) -> None:
        self.path = path
        self._read = read
        # The suffix stays: it says in which language the file is.
        self._copy = None if memory is None else memory / f"last-{path.name}"
        self._seen: Fingerprint | None = None
        self._read_as: Fingerprint | None = None

    def changed(self) -> bool:
        """To be asked now and then."""
        there = fingerprint(self.path)
        settled, self._seen = there == self._seen, there
        return settled and there != self._read_as

    def read(self) -> T:
        """As it is now. Raises ConfigError."""
        # Taken before reading: a write during it is seen as a change at the next look.
        self._seen = self._read_as = fingerprint(self.path)
        found = self._read(self.path)
        self._remember()
        return found

    def read_first(self) -> tuple[T, ConfigError | None]:
        """At a start: as it is now, or else as a worker before this one took it, with what is wrong with it now.

        Without that a worker that dies while a wrong edit lies there could not be replaced. Raises ConfigError.
        """
        try:
            return self.read(), None
        except ConfigError as wrong:
            if self._copy is None or not self._copy.exists():
                raise
            try:
                return self._read(self._copy), wrong
            except ConfigError:
                raise wrong from None

    def _remember(self) -> None:
        if self._copy is None:
            return
        partial = self._copy.with_name(f".{os.getpid()}-{self._copy.name}")
        try:
            partial.touch(mode=0o600)
            partial.write_bytes(self.path.read_bytes())
            if fingerprint(self.path) == self._read_as:  # else it is not what was read
                partial.replace(self._copy)
        except OSError:
            pass  # the file went away meanwhile, which the next look tells; the last right state stays
        finally:
            partial.unlink(missing_ok=True)


def fingerprint(path: Path) -> Fingerprint:
    try:
        stat = path.stat()
    except OSError:
        return GONE
    return stat.st_mtime_ns, stat.st_size, stat.st_ino

"""Where the content of files lies: ``<home>/files/<owner>/<file id>``; what is being written, under ``incoming``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import Unavailable

PIECE_BYTES = 1 << 20  # written and hashed at once, on a thread
FREE_BYTES = 1 << 30  # of the disk, that are left to everybody else
_INCOMING = "incoming"
_OWNER = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class DiskFull(Unavailable):
    """The disk under the home folder is nearly full."""

    code = "storage_full"


@dataclass(frozen=True, slots=True)
class Written:
    path: Path
    size_bytes: int
    sha256: str


class Incoming:
    """A file that is being written. ``async with``: it is gone at the end unless it was put in its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._size_bytes = 0

    async def __aenter__(self) -> Incoming:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    async def write(self, data: bytes) -> None:
        """Raises OSError."""
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= PIECE_BYTES:
            await asyncio.to_thread(self._flush)

    async def finish(self) -> Written:
        """All of it is on the disk, even if the power fails. Raises OSError."""

        def sync() -> None:
            self._flush()
            os.fsync(self._file.fileno())

        await asyncio.to_thread(sync)
        return Written(self._path, self._size_bytes, self._hash.hexdigest())

    def _flush(self) -> None:
        piece = memoryview(b"".join(self._pieces))
        self._pieces.clear()
        self._waiting_bytes = 0
        self._hash.update(piece)
        self._size_bytes += len(piece)
        while piece:
            piece = piece[self._file.write(piece) or 0 :]


@dataclass(frozen=True, slots=True)
class Disk:
    root: Path

    def incoming(self, expected_bytes: int = 0) -> Incoming:
        """Raises DiskFull, OSError."""
        folder = self.root / _INCOMING
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < expected_bytes + FREE_BYTES:
            raise DiskFull("The server has no room for more files; tell its operator.")
        return Incoming(folder / secrets.token_hex(16))

    def path(self, owner: str, file_id: str) -> Path:
        """Raises ValueError for what must not be part of a path."""
        if not _OWNER.fullmatch(owner) or owner in (".", "..", _INCOMING):
            raise ValueError(f"not an owner: {owner!r}")
        return self.root / owner / file_id

    def place(self, written: Written, owner: str, file_id: str) -> Path:
        """Raises OSError."""
        path = self.path(owner, file_id)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        written.path.replace(path)
        return path

    def contents(self, untouched_since_unix_s: float) -> Iterator[tuple[str, str, Path]]:
        """(owner, file id, path) of what was last written before that time; the owner "" of what never got a place."""
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.stat().st_mtime < untouched_since_unix_s:
                    yield ("" if folder.name == _INCOMING else folder.name), path.name, path

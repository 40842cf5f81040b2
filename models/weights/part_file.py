"""A file that is arriving: what is there of it already, and its checksum so far."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from models.weights.checksums import Digester, Expected
from models.weights.errors import Damaged
from models.weights.remote import RemoteFile

REREAD_BYTES = 4 * 2**20


class PartFile:
    """Opens ``path``, made by an earlier attempt or not, and reads what it holds. One owner at a time; close it."""

    def __init__(self, path: Path, file: RemoteFile, expected: Expected | None) -> None:
        self._file = file
        self._expected = expected
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+")
        self.found_bytes = min(os.fstat(self._handle.fileno()).st_size, file.size_bytes)
        self.place = 0
        self._digester = Digester(file.size_bytes, expected)
        self._handle.truncate(self.found_bytes)
        buffer = bytearray(REREAD_BYTES)
        view = memoryview(buffer)
        while count := self._handle.readinto(buffer):
            self._digester.update(view[:count])
            self.place += count

    @property
    def whole(self) -> bool:
        return self.place >= self._file.size_bytes

    @property
    def sha256(self) -> str:
        return self._digester.sha256

    def append(self, chunk: bytes) -> None:
        """Raises Damaged when there is more of it than was listed, OSError when the disk is full."""
        if self.place + len(chunk) > self._file.size_bytes:
            raise Damaged(f"{self._file.name} is larger than its source said", "try again")
        view = memoryview(chunk)
        while view:
            written = self._handle.write(view)
            assert written is not None  # the file does not refuse to block
            self._digester.update(view[:written])
            self.place += written
            view = view[written:]

    def rewind(self) -> int:
        """Forget the bytes; how many there were."""
        had, self.place = self.place, 0
        self._handle.seek(0)
        self._handle.truncate(0)
        self._digester = Digester(self._file.size_bytes, self._expected)
        return had

    def agrees(self) -> bool:
        return self._digester.agrees()

    def finish(self, path: Path) -> None:
        """Give it its name, once its bytes are on the disk. Raises OSError."""
        os.fsync(self._handle.fileno())
        os.rename(self._path, path)

    def close(self) -> None:
        self._handle.close()

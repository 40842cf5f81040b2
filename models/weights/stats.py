"""What a file's status says of its content: equal statuses, equal content, unless the disk is at fault."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec


class FileStat(msgspec.Struct, frozen=True):
    """Every write moves ``ctime_ns``, also one that puts ``mtime_ns`` back."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileStat:
        """Follows links. Raises OSError."""
        return cls.read(os.stat(path))

    @classmethod
    def read(cls, status: os.stat_result) -> FileStat:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def fingerprint(folder: Path, files: Mapping[str, FileStat]) -> str:
    """Names a folder as it is now without reading its files: another one after any change. 32 hex digits."""
    whole = hashlib.sha256(os.fsencode(folder))
    for name, stat in sorted(files.items()):
        whole.update(f"\0{name}\0{stat.size_bytes}\0{stat.mtime_ns}\0{stat.ctime_ns}\0{stat.inode}".encode())
    return whole.hexdigest()[:32]

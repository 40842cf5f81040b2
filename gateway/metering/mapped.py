"""Files that are written through memory: what is in them survives this process, and costs it no system call."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path


def create(path: Path, size: int, room_bytes: int) -> mmap.mmap:
    """A new file of zeros, all of it on the disk: a page that has no room there would kill the one who writes to it.

    ``room_bytes``: what is to be left on the disk for others. Raises OSError, ENOSPC too.
    """
    disk = os.statvfs(path.parent)
    if disk.f_bavail * disk.f_frsize < size + room_bytes:
        raise OSError(errno.ENOSPC, f"less than {(size + room_bytes) >> 20} MiB are left", str(path))
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(number, 0, size)
        return mmap.mmap(number, size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(number)

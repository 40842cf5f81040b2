"""Where a model's weights are now: in the page cache, on this node's disk, or somewhere else."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.weights.hashing import Pace

Tier = Literal["page_cache", "disk", "remote"]
MOSTLY = 0.9  # a start from so much in RAM is as good as one from RAM
WINDOW_BYTES = 2**30
READ_BYTES = 8 * 2**20
_FAILED = ctypes.c_void_p(-1).value


@dataclass(frozen=True, slots=True)
class Residence:
    """``cached_fraction``: of ``bytes``, what is in the page cache now."""

    tier: Tier
    cached_fraction: float
    bytes: int


REMOTE = Residence("remote", 0.0, 0)


def residence(files: Iterable[Path]) -> Residence:
    """Of the files together; those that are gone do not count. REMOTE when none is there."""
    total, cached = 0, 0
    for path in files:
        try:
            size_bytes, cached_bytes = cached_bytes_of(path)
        except OSError:
            continue
        total, cached = total + size_bytes, cached + cached_bytes
    if total == 0:
        return REMOTE
    fraction = cached / total
    return Residence("page_cache" if fraction >= MOSTLY else "disk", fraction, total)


def cached_bytes_of(path: Path) -> tuple[int, int]:
    """A file's size, and how much of it is in the page cache (mincore(2)); about 2 ms for each GiB. Raises OSError.

    Since Linux 5.2 the kernel tells only whoever owns the file or may write it, and calls all of it cached otherwise.
    """
    library = _library()
    cached = 0
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        for place in range(0, size_bytes, WINDOW_BYTES):
            length = min(WINDOW_BYTES, size_bytes - place)
            pages = (length + mmap.PAGESIZE - 1) // mmap.PAGESIZE
            address = library.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), place)
            if address == _FAILED:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            try:
                seen = (ctypes.c_ubyte * pages)()
                if library.mincore(address, length, seen) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            finally:
                library.munmap(address, length)
            resident = pages - bytes(seen).translate(_LOWEST_BIT).count(0)
            cached += min(resident * mmap.PAGESIZE, length)
    return size_bytes, cached


def warm(files: Iterable[Path], bytes_per_s: float, *, pace: Pace | None = None) -> int:
    """Read files into the page cache at a bounded rate (0: none); how many bytes. Raises Stopped, OSError."""
    pace = pace or Pace(bytes_per_s)
    buffer, total = bytearray(READ_BYTES), 0
    for path in files:
        with path.open("rb", buffering=0) as file:
            while True:
                pace.take(READ_BYTES)
                count = file.readinto(buffer)
                if not count:
                    break
                total += count
    return total


_LOWEST_BIT = bytes(value & 1 for value in range(256))  # the other bits of mincore's bytes are reserved


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong,
    ]  # fmt: skip
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return library

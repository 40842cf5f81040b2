"""Reads files to their end at the speed of the disk, or slower when asked to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from models.weights.checksums import Digester, Expected
from models.weights.errors import Busy, Damaged
from models.weights.stats import FileStat

CHUNK_BYTES = 4 * 2**20
THREADS = 4
OnBytes = Callable[[int], None]


def ignore_bytes(count: int) -> None:
    """Nobody watches."""


class Stopped(Exception):
    """Whoever paces the reading wants no more of it."""


@dataclass(frozen=True, slots=True)
class FileSum:
    stat: FileStat
    sha256: str
    agrees: bool  # with what was expected of it


class Pace:
    """Bounds the rate of reading. 0 bytes/s: no bound. ``stop``: asked before each chunk."""

    def __init__(
        self,
        bytes_per_s: float = 0.0,
        *,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._stop = stop
        self._clock = clock
        self._sleep = sleep
        self._free_s = float("-inf")  # when the next chunk may be read

    def take(self, count: int) -> None:
        """Wait until ``count`` more bytes may be read. Raises Stopped."""
        if self._stop():
            raise Stopped
        if self._bytes_per_s <= 0:
            return
        now = self._clock()
        if self._free_s > now:
            self._sleep(self._free_s - now)
        self._free_s = max(now, self._free_s) + count / self._bytes_per_s


def hash_file(
    path: Path,
    expected: Expected | None = None,
    *,
    on_bytes: OnBytes = ignore_bytes,
    pace: Pace | None = None,
    keep_cached: bool = True,
) -> FileSum:
    """The file's SHA-256, and whether it comes to what is expected of it.

    ``keep_cached``: else what was read leaves the page cache again. Raises Busy when it changes while it is read,
    Damaged when the disk cannot read it, Stopped, and FileNotFoundError.
    """
    pace = pace or Pace()
    try:
        with path.open("rb", buffering=0) as file:
            before = FileStat.read(os.fstat(file.fileno()))
            digester = Digester(before.size_bytes, expected)
            buffer = bytearray(min(CHUNK_BYTES, max(before.size_bytes, 1)))
            view, place = memoryview(buffer), 0
            while True:
                pace.take(len(buffer))
                count = file.readinto(buffer)
                if not count:
                    break
                digester.update(view[:count])
                if not keep_cached:
                    os.posix_fadvise(file.fileno(), place, count, os.POSIX_FADV_DONTNEED)
                place += count
                on_bytes(count)
            after = FileStat.read(os.fstat(file.fileno()))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"the file {path.name} cannot be read ({error.strerror})", "look at the disk's health") from None
    if before != after:
        raise Busy(f"the file {path.name} is being written", "wait until it is whole")
    return FileSum(before, digester.sha256, digester.agrees())


def hash_files(
    files: Sequence[tuple[Path, Expected | None]], *, on_bytes: OnBytes = ignore_bytes, pace: Pace | None = None
) -> list[FileSum]:
    """Several at a time, in order. Raises what ``hash_file`` raises, for the first file that fails."""
    if len(files) == 1 or pace is not None:  # a bounded rate needs no threads
        return [hash_file(path, expected, on_bytes=on_bytes, pace=pace) for path, expected in files]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="hash") as pool:
        tasks = [pool.submit(hash_file, path, expected, on_bytes=on_bytes) for path, expected in files]
        return [task.result() for task in tasks]

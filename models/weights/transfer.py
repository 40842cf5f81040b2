"""Brings the files of a listing into a folder, however often it is interrupted.

A file grows as ``<name>.part``; it gets its own name once its bytes have been verified and are on the disk. Another
attempt, also of another process, keeps what has its name and goes on where ``.part`` ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

from models.weights.checksums import Expected
from models.weights.errors import Damaged, TransferFailed
from models.weights.hashing import Stopped
from models.weights.part_file import PartFile
from models.weights.progress import Meter
from models.weights.records import KnownFile, Struct, load, save
from models.weights.remote import Listing, Remote, RemoteFile
from models.weights.stats import FileStat

PART = ".part"
STREAMS = 4
TRIES = 5  # in a row without a single new byte
LONGEST_PAUSE_S = 30.0


class Arrived(Struct, frozen=True):
    """Files that have their names. Kept beside them, so that they need not be read again."""

    files: dict[str, KnownFile]

    @staticmethod
    def path(folder: Path) -> Path:
        return folder / ".arrived.json"


class Transfer:
    """``sums``: from checksum files of the source, by file name; they count before ``RemoteFile.expected``."""

    def __init__(
        self,
        remote: Remote,
        folder: Path,
        meter: Meter,
        *,
        sums: Mapping[str, Expected] | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._remote = remote
        self._folder = folder
        self._meter = meter
        self._sums = sums or {}
        self._clock = clock
        self._sleep = sleep
        self._stop = threading.Event()

    def run(self, listing: Listing) -> dict[str, KnownFile]:
        """Until every file is there and verified. When one fails the others end, and those that are whole are kept.

        Raises TransferFailed, Damaged, SourceRefused, OSError.
        """
        files = arrived_files(self._folder, listing)
        with ThreadPoolExecutor(STREAMS, thread_name_prefix="fetch") as pool:
            names = {pool.submit(self.fetch, file): file.name for file in listing.files if file.name not in files}
            failed: BaseException | None = None
            try:
                for task in as_completed(names):
                    problem = None if task.cancelled() else task.exception()
                    if not task.cancelled() and problem is None:
                        files[names[task]] = task.result()
                        save(Arrived.path(self._folder), Arrived(files=files))
                        self._meter.file_done()
                    elif failed is None:
                        failed = problem
                        self._end(names)
            except BaseException:
                self._end(names)
                raise
        if failed is not None:
            raise failed
        return files

    def _end(self, tasks: Iterable[Future[KnownFile]]) -> None:
        self._stop.set()
        for task in tasks:
            task.cancel()

    def fetch(self, file: RemoteFile) -> KnownFile:
        """One file. Wrong bytes are fetched once more when a part of them is older than this attempt."""
        expected = self._sums.get(file.name, file.expected)
        with closing(PartFile(self._folder / f"{file.name}{PART}", file, expected)) as part:
            self._fill(file, part)
            if not part.agrees() and part.found_bytes:
                self._meter.add(-part.rewind())
                self._fill(file, part)
            if not part.agrees():
                part.rewind()
                raise Damaged(
                    f"{file.name} arrived damaged: its checksum is not the one that"
                    f" {expected.said_by if expected else 'the source'} names",
                    "try again; if it stays so, the source itself is damaged",
                )
            path = self._folder / file.name
            part.finish(path)
            return KnownFile(
                stat=FileStat.of(path),
                sha256=part.sha256,
                checked_unix_s=self._clock(),
                against=expected.said_by if expected is not None else "",
                fixed=True,
            )

    def _fill(self, file: RemoteFile, part: PartFile) -> None:
        """A lost connection is taken up again, after growing pauses while nothing comes at all."""
        tries = 0
        while not part.whole:
            if self._stop.is_set():
                raise Stopped
            before = part.place
            try:
                self._stream(file, part)
                if not part.whole:
                    raise TransferFailed(f"{file.name} broke off", "try again: it goes on from there")
            except TransferFailed:
                tries = 0 if part.place > before else tries + 1
                if tries >= TRIES:
                    raise
                self._sleep(min(2.0**tries, LONGEST_PAUSE_S))

    def _stream(self, file: RemoteFile, part: PartFile) -> None:
        began, chunks = self._remote.read(file, part.place)
        if began != part.place:
            self._meter.add(-part.rewind())
        for chunk in chunks:
            if self._stop.is_set():
                raise Stopped
            part.append(chunk)
            self._meter.add(len(chunk))


def arrived_files(folder: Path, listing: Listing) -> dict[str, KnownFile]:
    """Those of the listing that are whole already, from an earlier attempt."""
    record = load(Arrived.path(folder), Arrived)
    sizes = {file.name: file.size_bytes for file in listing.files}
    found = {}
    for name, known in (record.files if record is not None else {}).items():
        try:
            whole = FileStat.of(folder / name) == known.stat
        except OSError:
            continue
        if whole and sizes.get(name) == known.stat.size_bytes:
            found[name] = known
    return found


def present_bytes(folder: Path, listing: Listing) -> tuple[int, int]:
    """Of the listing, what need not be fetched: bytes (parts of files too) and whole files."""
    arrived = arrived_files(folder, listing)
    total = sum(known.stat.size_bytes for known in arrived.values())
    for file in listing.files:
        path = folder / f"{file.name}{PART}"
        if file.name not in arrived and path.exists():
            total += min(path.stat().st_size, file.size_bytes)
    return total, len(arrived)

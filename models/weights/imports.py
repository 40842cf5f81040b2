"""Brings a source into the store: list, make room, transfer, verify, and only then give it its place."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from models.weights.checksums import Expected
from models.weights.errors import Damaged, NoRoom, WeightsError
from models.weights.folders import FolderBook
from models.weights.headers import check_weights
from models.weights.locks import locked
from models.weights.paths import StorePaths, source_key
from models.weights.progress import Meter, OnProgress, read_progress
from models.weights.records import FolderRecord, KnownFile, SourceRecord, load, save
from models.weights.remote import Listing, Remote
from models.weights.selection import SAFETENSORS, is_sums, model_files, refuse_pickles
from models.weights.space import FREE_SOME, Space
from models.weights.stats import FileStat
from models.weights.sums import parse_sums
from models.weights.transfer import Arrived, Transfer, present_bytes
from models.weights.urls import FolderUrl

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Importer:
    def __init__(
        self,
        paths: StorePaths,
        book: FolderBook,
        space: Space,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._paths = paths
        self._book = book
        self._space = space
        self._clock = clock
        self._sleep = sleep

    def fetch(self, remote: Remote, tell: OnProgress) -> SourceRecord:
        """The source, downloaded or copied. Who comes while another fetches it waits, and finds it done.

        Raises SourceRefused, TransferFailed, Damaged, NoRoom; OSError when the store cannot be written.
        """
        url = str(remote.url)
        meter = Meter(self._paths, url, tell=tell, clock=self._clock)

        def follow() -> None:
            other = read_progress(self._paths.progress_of(url))
            if other is not None:
                meter.follow(other)

        with locked(self._paths.lock(self._paths.source(url).name), on_wait=follow, sleep=self._sleep):
            return self._guarded(meter, lambda: self._fetch(remote, url, meter))

    def refer(self, url: FolderUrl, tell: OnProgress) -> SourceRecord:
        """A folder that stays where it is: read once, compared with the checksum files beside it.

        Raises SourceRefused, Damaged, Busy.
        """
        meter = Meter(self._paths, str(url), tell=tell, clock=self._clock)
        return self._guarded(meter, lambda: self._refer(url, meter))

    def _guarded(self, meter: Meter, work: Callable[[], SourceRecord]) -> SourceRecord:
        try:
            record = work()
        except BaseException as error:
            meter.phase("failed", str(error) if isinstance(error, WeightsError) else "it was interrupted")
            raise
        meter.phase("done")
        meter.close()
        return record

    def _fetch(self, remote: Remote, url: str, meter: Meter) -> SourceRecord:
        meter.phase("listing")
        listing = remote.listing()
        before = load(self._paths.source(url), SourceRecord)
        partial = self._paths.partial(url, listing.version)
        self._drop_outdated(url, partial)
        if before is not None and before.version == listing.version and Path(before.folder).is_dir():
            if self._is_whole(Path(before.folder), listing):
                return before
            self._salvage(Path(before.folder), partial)
        try:
            files = self._transfer(remote, listing, partial, meter)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._space.remove(partial)  # a full disk hurts everybody
            raise NoRoom("the disk became full meanwhile; what had arrived was removed", FREE_SOME) from None
        meter.phase("checking")
        for name in files:
            if name.endswith(SAFETENSORS):
                self._check(partial, name)
        return self._land(url, listing, partial, files)

    def _transfer(self, remote: Remote, listing: Listing, partial: Path, meter: Meter) -> dict[str, KnownFile]:
        present, whole = present_bytes(partial, listing)
        # Known to be of this source before there is anything in it, or nobody would know that it is being written.
        self._space.stamp(partial, str(remote.url))
        self._space.make_room(listing.size_bytes - present, partial, listing.size_bytes)
        meter.begin(listing.size_bytes, len(listing.files), present, whole)
        sums: dict[str, Expected] = {}
        said = Listing(listing.version, tuple(file for file in listing.files if is_sums(file.name)))
        if said.files:
            self._run(remote, partial, meter, {}, said)
            for file in said.files:
                sums |= parse_sums((partial / file.name).read_text(errors="replace"), Path(file.name).name)
        return self._run(remote, partial, meter, sums, listing)

    def _run(
        self, remote: Remote, partial: Path, meter: Meter, sums: Mapping[str, Expected], listing: Listing
    ) -> dict[str, KnownFile]:
        transfer = Transfer(remote, partial, meter, sums=sums, clock=self._clock, sleep=self._sleep)
        return transfer.run(listing)

    def _check(self, partial: Path, name: str) -> None:
        try:
            check_weights(partial / name)
        except Damaged as error:
            (partial / name).unlink()
            raise Damaged(f"the source itself is damaged: {error.message}", "have it repaired there") from None

    def _land(self, url: str, listing: Listing, partial: Path, files: Mapping[str, KnownFile]) -> SourceRecord:
        """In this order: whatever moment it is interrupted at, nothing half is ever found."""
        folder = self._paths.download(url, listing.version)
        if folder.exists():
            self._space.remove(folder)
        for note in (Arrived.path(partial), partial / ".claim.json"):
            note.unlink(missing_ok=True)
        model = {name: file for name, file in files.items() if not is_sums(name)}
        self._book.write(FolderRecord(folder=str(folder), files=model))
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.rename(partial, folder)
        _sync(folder.parent)
        self._paths.stamp(partial).unlink(missing_ok=True)
        self._space.stamp(folder, url)
        record = SourceRecord(
            url=url,
            folder=str(folder),
            version=listing.version,
            bytes=listing.size_bytes,
            imported_unix_s=self._clock(),
            against=dict(collections.Counter(file.against for file in model.values())),
        )
        save(self._paths.source(url), record)
        return record

    def _is_whole(self, folder: Path, listing: Listing) -> bool:
        record = self._book.read(folder)
        if record is None or record.damage:
            return False
        with contextlib.suppress(OSError):
            return all((folder / file.name).stat().st_size == file.size_bytes for file in listing.files)
        return False

    def _salvage(self, folder: Path, partial: Path) -> None:
        """Of a download that is damaged: the files that are not need not come again."""
        record = self._book.read(folder)
        damaged = {each.file for each in record.damage} if record is not None else set()
        files: dict[str, KnownFile] = {}
        for name, known in (record.files if record is not None else {}).items():
            target = partial / name
            with contextlib.suppress(OSError):
                if name not in damaged and FileStat.of(folder / name) == known.stat:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(folder / name, target)
                    files[name] = msgspec.structs.replace(known, stat=FileStat.of(target))
        if files:
            save(Arrived.path(partial), Arrived(files=files))

    def _drop_outdated(self, url: str, partial: Path) -> None:
        """Parts of what the source held before it changed."""
        if self._paths.partials.is_dir():
            for folder in self._paths.partials.glob(f"{source_key(url)}-*"):
                if folder != partial:
                    shutil.rmtree(folder, ignore_errors=True)

    def _refer(self, url: FolderUrl, meter: Meter) -> SourceRecord:
        folder = url.folder
        found = model_files(folder)
        refuse_pickles([*found, *(entry.name for entry in folder.iterdir())])
        meter.begin(sum(stat.size_bytes for stat in found.values()), len(found), 0, 0)
        meter.phase("checking")
        known = self._book.learn(folder, on_bytes=meter.add)
        record = SourceRecord(
            url=str(url),
            folder=str(folder),
            version=known.digest,
            bytes=sum(file.stat.size_bytes for file in known.files.values()),
            imported_unix_s=self._clock(),
            reference=True,
            against=dict(collections.Counter(file.against for file in known.files.values())),
        )
        save(self._paths.source(str(url)), record)
        return record


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

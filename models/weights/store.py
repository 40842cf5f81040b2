"""The weights of one node: what is here, what may be used, what has to be fetched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.weights.errors import Busy, Damaged
from models.weights.eviction import Choice, Item
from models.weights.folder_remote import FolderRemote
from models.weights.folders import FolderBook
from models.weights.hashing import OnBytes, Pace, ignore_bytes
from models.weights.hub_remote import HubRemote
from models.weights.imports import Importer
from models.weights.layouts import LAYOUTS, Layouts
from models.weights.locks import locked
from models.weights.paths import StorePaths
from models.weights.progress import OnProgress, read_progress
from models.weights.records import FolderRecord, Progress, Settings, SourceRecord, load, save
from models.weights.remote import Listing, Remote
from models.weights.residence import Residence, residence
from models.weights.s3_remote import S3Remote
from models.weights.scrub import Scrub
from models.weights.selection import SAFETENSORS, model_files
from models.weights.space import Space, records
from models.weights.transfer import present_bytes
from models.weights.urls import FolderUrl, HubUrl, SourceUrl
from models.weights.uses import Uses


@dataclass(frozen=True, slots=True)
class Planned:
    """What an import would fetch. ``present_bytes``: here already, from an attempt that was interrupted."""

    url: str
    files: tuple[str, ...]
    bytes: int
    present_bytes: int


def ignore_progress(progress: Progress) -> None:
    """Nobody watches."""


class WeightStore:
    """Everything below ``root``; several processes may use it at once. Nothing is made before it is needed."""

    def __init__(
        self,
        root: Path,
        *,
        env: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        self._env = os.environ if env is None else env
        self.paths = StorePaths(root)
        self.book = FolderBook(self.paths, clock)
        self.uses = Uses(self.paths)
        self.space = Space(self.paths, self.uses, clock=clock, free_bytes=free_bytes)
        self.layouts = Layouts(self.paths, self.book, self.space)
        self.scrub = Scrub(self.paths, self.book, self.layouts, self.space, clock)
        self._importer = Importer(self.paths, self.book, self.space, clock=clock, sleep=sleep)

    # -- settings ---------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        return self.space.settings

    def configure(self, settings: Settings) -> None:
        """For every process that uses this store, from now on. Raises OSError."""
        if settings != load(self.paths.settings, Settings):
            save(self.paths.settings, settings)

    # -- what is here -----------------------------------------------------------------------------------------------

    def find(self, source: str) -> Path | None:
        """The folder of an imported source; None when it has to be fetched first."""
        record = load(self.paths.source(source), SourceRecord)
        return Path(record.folder) if record is not None and Path(record.folder).is_dir() else None

    def sources(self) -> list[SourceRecord]:
        return records(self.paths)

    def items(self) -> list[Item]:
        return self.space.items()

    def progress(self) -> list[Progress]:
        """Of every import that goes on, or that broke off and may go on."""
        found = (read_progress(path) for path in sorted(self.paths.progress.glob("*.json")))
        return [each for each in found if each is not None]

    def progress_of(self, source: str) -> Progress | None:
        return read_progress(self.paths.progress_of(source))

    def where(self, folder: Path) -> Residence:
        """Where a start of this folder's model would read from: its layouts when there are any, else its weights."""
        try:
            layout = self.layouts.find(folder)
            files = [*layout.glob(LAYOUTS)] if layout is not None else []
            named = files or [folder / name for name in model_files(folder) if name.endswith(SAFETENSORS)]
        except OSError:
            named = []
        return residence(named)

    # -- imports ----------------------------------------------------------------------------------------------------

    def fetch(self, url: SourceUrl, *, copy: bool = False, tell: OnProgress = ignore_progress) -> SourceRecord:
        """Bring a source here and verify it; a local folder stays in its place unless it is to be copied.

        Raises SourceRefused, TransferFailed, Damaged, NoRoom, Busy, OSError.
        """
        if isinstance(url, FolderUrl) and not copy:
            return self._importer.refer(url, tell)
        return self._importer.fetch(self._remote(url), tell)

    def bring(self, remote: Remote, tell: OnProgress = ignore_progress) -> SourceRecord:
        """As ``fetch``, from wherever ``remote`` has it."""
        return self._importer.fetch(remote, tell)

    def plan(self, url: SourceUrl) -> Planned:
        """What ``fetch`` would bring. Raises SourceRefused, TransferFailed."""
        remote = self._remote(url)
        listing: Listing = remote.listing()
        present, _ = present_bytes(self.paths.partial(str(url), listing.version), listing)
        done = load(self.paths.source(str(url)), SourceRecord)
        if done is not None and done.version == listing.version:
            present = listing.size_bytes
        return Planned(str(url), tuple(file.name for file in listing.files), listing.size_bytes, present)

    def _remote(self, url: SourceUrl) -> Remote:
        if isinstance(url, FolderUrl):
            return FolderRemote(url)
        return HubRemote(url, self._env) if isinstance(url, HubUrl) else S3Remote(url, self._env)

    # -- whole or not -----------------------------------------------------------------------------------------------

    def refuse_damaged(self, folder: Path) -> None:
        """Raises Damaged for what was found earlier and has not been replaced."""
        self.book.refuse_damaged(folder)

    def verify(self, folder: Path, *, on_bytes: OnBytes = ignore_bytes, pace: Pace | None = None) -> FolderRecord:
        """Read all of a folder again. When it is damaged, the layouts made from it are dropped.

        Raises Damaged, Busy, SourceRefused, Stopped, OSError.
        """
        try:
            return self.book.verify(folder, on_bytes=on_bytes, pace=pace)
        except Damaged:
            self.layouts.drop(folder)
            raise

    def learn(self, folder: Path, *, pace: Pace | None = None) -> FolderRecord:
        """Read what is not known of a folder yet; its layouts get their lasting name. Raises as ``verify``."""
        try:
            record = self.book.learn(folder, pace=pace)
        except Damaged:
            self.layouts.drop(folder)
            raise
        self.layouts.folder_for(folder)
        return record

    # -- engines ----------------------------------------------------------------------------------------------------

    def prepare(self, engine: str, folder: Path) -> Path | None:
        """The layout folder for an engine that is about to start; held for it together with its source.

        None: there is no room for a layout. Raises Damaged for a folder that is known to be, OSError.
        """
        self.refuse_damaged(folder)
        with locked(self.paths.lock("space")):
            layout = self.layouts.folder_for(folder)
            self.space.stamp(layout, str(folder))
            if folder.is_relative_to(self.paths.downloads):
                self.space.stamp(folder, self.space.stamped(folder)[1])
            self.uses.hold(engine, os.getpid(), folder, layout)
        if not any(layout.glob(LAYOUTS)):
            weights = [folder / name for name in model_files(folder) if name.endswith(SAFETENSORS)]
            if not self.space.fits(sum(path.stat().st_size for path in weights)):
                return None
        return layout

    # -- room -------------------------------------------------------------------------------------------------------

    def prune(self, limit_bytes: int | None = None, *, dry_run: bool = False) -> Choice:
        return self.space.prune(limit_bytes, dry_run=dry_run)

    def belongings(self, source: str) -> list[Item]:
        """What a source takes here: its download, what broke off, and the layouts made from it."""
        folder = self.find(source) or Path(source)
        names = {source, str(folder)}
        return [item for item in self.items() if item.source in names]

    def remove(self, source: str, *, dry_run: bool = False) -> list[Item]:
        """A local folder that is only referred to stays. Raises Busy when a running engine needs any of it."""
        items = self.belongings(source)
        for item in items:
            if item.held:
                raise Busy(f"{source} is in use ({item.held})", "stop its model first: roundhouse models stop")
        if not dry_run:
            for item in items:
                self.space.remove(item.path)
            folder = self.find(source)
            if folder is not None:  # a reference: nothing of it is known any more
                self.book.forget(folder)
            self.paths.source(source).unlink(missing_ok=True)
            self.paths.progress_of(source).unlink(missing_ok=True)
        return items

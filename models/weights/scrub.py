"""Reads what is on the disk again, slowly, and notices what has gone bad before a model does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models.weights.errors import Busy, Damaged
from models.weights.folders import FolderBook
from models.weights.hashing import Pace, hash_file
from models.weights.layouts import LAYOUTS, Layouts
from models.weights.paths import StorePaths
from models.weights.records import LayoutCheck, LayoutRecord, load, save
from models.weights.residence import MOSTLY, cached_bytes_of
from models.weights.space import Space
from models.weights.stats import FileStat


class Manifest(msgspec.Struct, frozen=True):
    """Of a layout's file, as the engine's runtime writes it beside it: ``<key>.json``. Other fields are its own."""

    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A file to be read. ``checked_unix_s``: when it was last, 0 for never."""

    checked_unix_s: float
    folder: Path
    name: str
    layout: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """``problem``: what was found damaged; None when the file is whole."""

    target: Target
    problem: str | None = None


class Scrub:
    def __init__(
        self,
        paths: StorePaths,
        book: FolderBook,
        layouts: Layouts,
        space: Space,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._paths = paths
        self._book = book
        self._layouts = layouts
        self._space = space
        self._clock = clock

    def due(self) -> Target | None:
        """The file that was not read for the longest time, once that is longer than the settings allow."""
        oldest = min(self._targets(), key=lambda each: (each.checked_unix_s, each.folder, each.name), default=None)
        if oldest is None or self._clock() - oldest.checked_unix_s < self._space.settings.scrub_every_s:
            return None
        return oldest

    def check(self, target: Target, pace: Pace) -> Finding | None:
        """Read it. What is damaged is written down, and the layouts made from it are dropped; a damaged layout goes.

        None: it is being written, or was taken away. Raises Stopped.
        """
        try:
            if target.layout:
                return self._check_layout(target, pace)
            keep = _is_cached(target.folder / target.name)
            self._book.verify_file(target.folder, target.name, pace=pace, keep_cached=keep)
        except Damaged as damage:
            self._layouts.drop(target.folder)
            return Finding(target, damage.message)
        except (Busy, FileNotFoundError):
            return None
        return Finding(target)

    def _targets(self) -> Iterator[Target]:
        for record in self._book.all():
            folder = Path(record.folder)
            damaged = {each.file for each in record.damage}
            for name, known in record.files.items():
                if name not in damaged and folder.is_dir():
                    yield Target(known.checked_unix_s, folder, name, layout=False)
        for path in self._paths.layouts.glob(f"*/{LAYOUTS}"):
            if not path.parent.is_symlink():
                checks = self._record(path.parent).files
                known_as = checks.get(path.name)
                fresh = known_as is not None and _stat(path) == known_as.stat
                checked = known_as.checked_unix_s if known_as is not None and fresh else 0.0
                yield Target(checked, path.parent, path.name, layout=True)

    def _check_layout(self, target: Target, pace: Pace) -> Finding:
        """Compared with its manifest, else with what it was when it was first read here."""
        path = target.folder / target.name
        found = hash_file(path, pace=pace, keep_cached=_is_cached(path))
        manifest = load(path.with_suffix(".json"), Manifest)
        before = self._record(target.folder).files.get(target.name)
        promised = manifest.sha256 if manifest is not None else None
        if promised is None and before is not None and before.stat == found.stat:
            promised = before.sha256
        if promised is not None and promised != found.sha256:
            with contextlib.suppress(OSError):  # engines that run keep what they have mapped
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            return Finding(target, f"the layout {target.name} was damaged and is made anew at the next start")
        check = LayoutCheck(stat=found.stat, sha256=found.sha256, checked_unix_s=self._clock())
        files = {
            name: each for name, each in self._record(target.folder).files.items() if (target.folder / name).exists()
        }
        save(self._file(target.folder), LayoutRecord(files=files | {target.name: check}))
        return Finding(target)

    def _record(self, folder: Path) -> LayoutRecord:
        return load(self._file(folder), LayoutRecord) or LayoutRecord()

    def _file(self, folder: Path) -> Path:
        return self._paths.layout_checks / f"{folder.name}.json"


def _is_cached(path: Path) -> bool:
    """What is hot stays in the page cache, and what is not does not push out what is."""
    try:
        size_bytes, cached_bytes = cached_bytes_of(path)
    except OSError:
        return False
    return cached_bytes >= MOSTLY * size_bytes


def _stat(path: Path) -> FileStat | None:
    try:
        return FileStat.of(path)
    except OSError:
        return None

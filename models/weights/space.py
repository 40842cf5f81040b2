"""The quota and the disk: what takes room, what may go, and room for what is about to come."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from models.catalog.units import format_bytes
from models.weights.errors import NoRoom
from models.weights.eviction import Choice, Item, Kind, choose
from models.weights.locks import is_locked, locked
from models.weights.paths import StorePaths
from models.weights.processes import mapped_files
from models.weights.records import Settings, SourceRecord, Struct, load, save
from models.weights.uses import Uses

RESERVE_BYTES = 512 * 2**20  # of the disk, left to everybody else
RAISE_IT = "raise weights.quota, stop models that run, or free some: roundhouse weights remove"
FREE_SOME = "free some of the disk, or some weights: roundhouse weights prune"


class Claim(Struct, frozen=True):
    """How large a folder in ``partial/`` is going to be."""

    bytes: int


class Space:
    def __init__(
        self,
        paths: StorePaths,
        uses: Uses,
        *,
        clock: Callable[[], float] = time.time,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        self._paths = paths
        self._uses = uses
        self._clock = clock
        self._free_bytes = free_bytes or disk_free_bytes

    @property
    def settings(self) -> Settings:
        return load(self._paths.settings, Settings) or Settings()

    def free_bytes(self) -> int:
        return self._free_bytes(_existing(self._paths.root))

    def items(self) -> list[Item]:
        """Everything that takes room, with the reason why it may not go."""
        return self._sized(self._held())

    def _sized(self, held: dict[Path, str]) -> list[Item]:
        sources = {each.folder: each.url for each in records(self._paths)}
        found = []
        for folder in _folders(self._paths.layouts):
            found.append(self._item("layout", folder, held, self.stamped(folder)[1]))
        for folder in _folders(self._paths.downloads):
            found.append(self._item("download", folder, held, sources.get(str(folder), "")))
        for folder in _folders(self._paths.partials):
            found.append(self._partial(folder))
        return found

    def make_room(self, more_bytes: int, partial: Path, total_bytes: int) -> None:
        """Evict until ``more_bytes`` fit, and claim the room for ``partial``. Raises NoRoom, having removed nothing."""
        with locked(self._paths.lock("space")):
            items = [item for item in self.items() if item.path != partial]
            own = _tree_bytes(partial) if partial.exists() else 0
            excess, by_disk = self._excess(items, more_bytes, own)
            choice = choose(items, excess)
            if choice.short_bytes:
                raise self._no_room(more_bytes, choice, by_disk)
            partial.mkdir(mode=0o755, parents=True, exist_ok=True)
            save(partial / ".claim.json", Claim(bytes=total_bytes))
            doomed = [self._to_trash(item.path) for item in choice.victims]
        self._burn(doomed)

    def fits(self, more_bytes: int) -> bool:
        """Whether so much could be had; nothing is removed yet."""
        if self._excess(self._sized({}), more_bytes, 0)[0] <= 0:  # a look at who needs what takes a while
            return True
        items = self.items()
        return choose(items, self._excess(items, more_bytes, 0)[0]).short_bytes == 0

    def prune(self, limit_bytes: int | None = None, *, dry_run: bool = False) -> Choice:
        """Evict down to ``limit_bytes`` (default: the quota) and to a disk with its reserve; all that is of no use any
        more goes as well. What could not go is in ``short_bytes``."""
        if limit_bytes is None and self._is_kept():
            return Choice((), 0)
        with locked(self._paths.lock("space")):
            items = self.items()
            idle = [item for item in items if not item.used_unix_s and not item.held]
            rest = [item for item in items if item not in idle]
            excess = self._excess(rest, 0, 0, limit_bytes, freed=sum(item.bytes for item in idle))[0]
            choice = choose(rest, excess)
            victims = (*idle, *choice.victims)
            doomed = [] if dry_run else [self._to_trash(item.path) for item in victims]
        self._burn(doomed)
        return Choice(victims, choice.short_bytes)

    def _is_kept(self) -> bool:
        """The quota and the reserve, and there is no litter: seen without a look at who needs what."""
        items = self._sized({})
        litter = any(_folders(self._paths.trash)) or not all(item.used_unix_s for item in items)
        return not litter and self._excess(items, 0, 0)[0] <= 0

    def remove(self, folder: Path) -> None:
        """Nobody sees half of it: it is moved away at once, and then deleted."""
        with locked(self._paths.lock("space")):
            doomed = [self._to_trash(folder)]
        self._burn(doomed)

    def stamp(self, folder: Path, source: str = "") -> None:
        """It is used now. ``source``: what it was made from, for people."""
        path = self._paths.stamp(folder)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(source)
        now = self._clock()
        os.utime(path, (now, now))

    def stamped(self, folder: Path) -> tuple[float, str]:
        """When it was last used, and what it was made from."""
        path = self._paths.stamp(folder)
        try:
            return path.stat().st_mtime, path.read_text()
        except OSError:
            return 0.0, ""

    # -- how ------------------------------------------------------------------------------------------------------

    def _held(self) -> dict[Path, str]:
        held = {}
        for file in mapped_files(self._paths.root):
            for base in (self._paths.layouts, self._paths.downloads):
                if file.is_relative_to(base):
                    held[base / file.relative_to(base).parts[0]] = "a process has it mapped"
        for use in self._uses.alive():
            for path in (use.folder, use.layout):
                if path:
                    held[Path(path)] = f"{use.name} needs it"
        return held

    def _item(self, kind: Kind, folder: Path, held: dict[Path, str], source: str) -> Item:
        """A download that no source names any more is an older version of one: of no use."""
        used = self.stamped(folder)[0] if source else 0.0
        return Item(kind, folder, _tree_bytes(folder), used, held.get(folder, ""), source)

    def _partial(self, folder: Path) -> Item:
        """Being written while its source is locked; else what an interrupted import left, which may go on."""
        source = self.stamped(folder)[1]
        size_bytes = _tree_bytes(folder)
        if source and is_locked(self._paths.lock(self._paths.source(source).name)):
            claim = load(folder / ".claim.json", Claim)
            claimed = max(size_bytes, claim.bytes if claim is not None else 0)
            return Item("partial", folder, claimed, self._clock(), "it is being downloaded", source)
        return Item("partial", folder, size_bytes, self.stamped(folder)[0], "", source)

    def _excess(
        self, items: list[Item], more_bytes: int, own_bytes: int, limit_bytes: int | None = None, freed: int = 0
    ) -> tuple[int, bool]:
        """Bytes to free, and whether the disk is the narrower of the two."""
        outstanding = sum(item.bytes - _tree_bytes(item.path) for item in items if item.kind == "partial")
        by_disk = more_bytes + outstanding + RESERVE_BYTES - self.free_bytes() - freed
        quota = self.settings.quota_bytes if limit_bytes is None else limit_bytes
        if quota is None:
            return by_disk, True
        by_quota = sum(item.bytes for item in items) + own_bytes + more_bytes - quota
        return max(by_quota, by_disk), by_disk > by_quota

    def _no_room(self, more_bytes: int, choice: Choice, by_disk: bool) -> NoRoom:
        left = format_bytes(max(more_bytes - choice.short_bytes, 0))
        need = f"it needs {format_bytes(more_bytes)}"
        if by_disk:
            return NoRoom(f"{need}, but the disk has room for {left} more", FREE_SOME)
        quota = format_bytes(self.settings.quota_bytes or 0)
        return NoRoom(f"{need}, but the quota of {quota} leaves room for {left} beside what is in use", RAISE_IT)

    def _to_trash(self, folder: Path) -> Path:
        self._paths.trash.mkdir(mode=0o700, parents=True, exist_ok=True)
        doomed = self._paths.trash / f"{folder.name}.{secrets.token_hex(4)}"
        try:
            os.rename(folder, doomed)
        except FileNotFoundError:
            return doomed
        source = self.stamped(folder)[1]
        if source and folder.parent == self._paths.partials:  # there is nothing left to go on from
            self._paths.progress_of(source).unlink(missing_ok=True)
        self._paths.stamp(folder).unlink(missing_ok=True)
        self._paths.folder(folder).unlink(missing_ok=True)
        for record in records(self._paths):
            if record.folder == str(folder):
                self._paths.source(record.url).unlink(missing_ok=True)
        for link in _links(self._paths.layouts):
            if not link.exists():
                link.unlink(missing_ok=True)
        return doomed

    def _burn(self, doomed: list[Path]) -> None:
        """Also what an earlier process could not finish deleting."""
        for path in {*doomed, *_folders(self._paths.trash)}:
            shutil.rmtree(path, ignore_errors=True)


def records(paths: StorePaths) -> list[SourceRecord]:
    """Every source that was imported."""
    found = (load(path, SourceRecord) for path in sorted(paths.sources.glob("*.json")))
    return [record for record in found if record is not None]


def disk_free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _folders(base: Path) -> Iterator[Path]:
    if base.is_dir():
        yield from (path for path in sorted(base.iterdir()) if path.is_dir() and not path.is_symlink())


def _links(base: Path) -> Iterator[Path]:
    if base.is_dir():
        yield from (path for path in base.iterdir() if path.is_symlink())


def _tree_bytes(folder: Path) -> int:
    """What its files take on the disk; files that are half empty (sparse) count with what they have."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(base, name))
            except FileNotFoundError:
                continue
            total += min(status.st_size, status.st_blocks * 512) if status.st_blocks else status.st_size
    return total

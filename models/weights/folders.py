"""The book of model folders: what is in them, since when it is known, and what was found damaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from models.weights.checksums import Expected
from models.weights.errors import Damaged
from models.weights.hashing import OnBytes, Pace, hash_file, hash_files, ignore_bytes
from models.weights.headers import check_weights
from models.weights.locks import locked
from models.weights.paths import StorePaths
from models.weights.records import Damage, FolderRecord, KnownFile, load, save
from models.weights.selection import SAFETENSORS, model_files
from models.weights.stats import FileStat, fingerprint
from models.weights.sums import sums_beside

AGAIN = "put a whole copy in its place"


class FolderBook:
    def __init__(self, paths: StorePaths, clock: Callable[[], float] = time.time) -> None:
        self._paths = paths
        self._clock = clock

    def read(self, folder: Path) -> FolderRecord | None:
        return load(self._paths.folder(folder), FolderRecord)

    def all(self) -> list[FolderRecord]:
        found = (load(path, FolderRecord) for path in sorted(self._paths.folders.glob("*.json")))
        return [record for record in found if record is not None]

    def write(self, record: FolderRecord) -> None:
        save(self._paths.folder(Path(record.folder)), record)

    def forget(self, folder: Path) -> None:
        self._paths.folder(folder).unlink(missing_ok=True)

    def identity(self, folder: Path) -> tuple[str, str | None]:
        """The folder's fingerprint, and its content's digest when that is known; in the time of a few stats.

        Raises OSError, SourceRefused.
        """
        now = model_files(folder)
        record = self.read(folder)
        known = record is not None and record.files.keys() == now.keys()
        if known and record is not None and all(record.files[name].stat == stat for name, stat in now.items()):
            return fingerprint(folder, now), record.digest
        return fingerprint(folder, now), None

    def refuse_damaged(self, folder: Path) -> None:
        """Raises Damaged for what was found earlier, unless the file has been replaced since."""
        record = self.read(folder)
        for damage in record.damage if record is not None else ():
            if _stat(folder / damage.file) == damage.stat:
                raise Damaged(damage.message, AGAIN)

    def learn(self, folder: Path, *, on_bytes: OnBytes = ignore_bytes, pace: Pace | None = None) -> FolderRecord:
        """Read what is not known yet or has changed, and compare it with the checksum files beside it.

        Raises Damaged (and writes it down), Busy, SourceRefused, Stopped, OSError.
        """
        before = self.read(folder)
        return self._check(folder, before.files if before is not None else {}, on_bytes, pace, anew=False)

    def verify(self, folder: Path, *, on_bytes: OnBytes = ignore_bytes, pace: Pace | None = None) -> FolderRecord:
        """Read all of it again and compare it with everything known of it. Raises what ``learn`` raises."""
        before = self.read(folder)
        return self._check(folder, before.files if before is not None else {}, on_bytes, pace, anew=True)

    def verify_file(self, folder: Path, name: str, *, pace: Pace, keep_cached: bool) -> None:
        """One of a known folder's files, for the scrub. Raises Damaged (and writes it down), Busy, Stopped."""
        record = self.read(folder)
        if record is None or name not in record.files:
            return
        known = record.files[name]
        try:
            found = hash_file(folder / name, pace=pace, keep_cached=keep_cached)
        except FileNotFoundError:
            if not known.fixed:  # the folder is somebody else's: they took the file away
                self._replace(folder, name, None, None)
                return
            damage = self._damage(folder, name, f"the file {name} is missing")
        except Damaged as error:
            damage = self._damage(folder, name, error.message)
        else:
            why = _fault(name, known, None, found.stat, found.sha256)
            if why is None:
                kept = found.sha256 == known.sha256
                self._replace(folder, name, _known(known, found.stat, found.sha256, self._clock(), kept=kept), None)
                return
            damage = self._damage(folder, name, why)
        self._replace(folder, name, known, damage)
        raise Damaged(damage.message, AGAIN)

    # -- how ------------------------------------------------------------------------------------------------------

    def _check(
        self, folder: Path, known: Mapping[str, KnownFile], on_bytes: OnBytes, pace: Pace | None, *, anew: bool
    ) -> FolderRecord:
        now, sums = model_files(folder), sums_beside(folder)
        files: dict[str, KnownFile] = {}
        damage = self._structure(folder, now) + self._missing(folder, known, now)
        wrong = {each.file for each in damage}
        unread = [
            name
            for name, stat in now.items()
            if name not in wrong and (anew or name not in known or known[name].stat != stat)
        ]
        read = dict(zip(unread, self._read(folder, unread, sums, on_bytes, pace, damage), strict=True))
        for name, stat in now.items():
            before = known.get(name)
            if name in read and (found := read[name]) is not None:
                why = _fault(name, before, sums.get(name), found[0], found[1])
                if why is not None:
                    damage.append(self._damage(folder, name, why))
                    files |= {name: before} if before is not None else {}
                else:
                    kept = before is not None and before.sha256 == found[1]
                    promised = sums.get(name)
                    files[name] = _known(before, found[0], found[1], self._clock(), kept=kept, promised=promised)
            elif before is not None and (name in wrong or before.stat == stat):
                files[name] = before
        record = FolderRecord(folder=str(folder), files=files, damage=tuple(damage))
        with locked(self._lock(folder)):
            self.write(record)
        if damage:
            raise Damaged("; ".join(each.message for each in damage), AGAIN)
        return record

    def _read(
        self,
        folder: Path,
        names: list[str],
        sums: Mapping[str, Expected],
        on_bytes: OnBytes,
        pace: Pace | None,
        damage: list[Damage],
    ) -> list[tuple[FileStat, str] | None]:
        """None for a file that the disk cannot read, which is added to ``damage``."""
        try:
            found = hash_files([(folder / name, sums.get(name)) for name in names], on_bytes=on_bytes, pace=pace)
            return [(each.stat, each.sha256) for each in found]
        except Damaged:
            pass  # which of them, and the others all the same
        results: list[tuple[FileStat, str] | None] = []
        for name in names:
            try:
                one = hash_file(folder / name, pace=pace)
                results.append((one.stat, one.sha256))
            except Damaged as error:
                damage.append(self._damage(folder, name, error.message))
                results.append(None)
        return results

    def _structure(self, folder: Path, now: Mapping[str, FileStat]) -> list[Damage]:
        damage = []
        for name in now:
            if name.endswith(SAFETENSORS):
                try:
                    check_weights(folder / name)
                except Damaged as error:
                    damage.append(self._damage(folder, name, error.message))
        return damage

    def _missing(self, folder: Path, known: Mapping[str, KnownFile], now: Mapping[str, FileStat]) -> list[Damage]:
        gone = [name for name, file in known.items() if file.fixed and name not in now]
        return [self._damage(folder, name, f"the file {name} is missing") for name in gone]

    def _damage(self, folder: Path, name: str, message: str) -> Damage:
        return Damage(file=name, message=message, found_unix_s=self._clock(), stat=_stat(folder / name))

    def _replace(self, folder: Path, name: str, file: KnownFile | None, damage: Damage | None) -> None:
        """Change one file's entry; others may have been changed by somebody else meanwhile."""
        with locked(self._lock(folder)):
            record = self.read(folder) or FolderRecord(folder=str(folder))
            files = {key: value for key, value in record.files.items() if key != name}
            kept = tuple(each for each in record.damage if each.file != name)
            self.write(
                msgspec.structs.replace(
                    record,
                    files=files if file is None else files | {name: file},
                    damage=kept if damage is None else (*kept, damage),
                )
            )

    def _lock(self, folder: Path) -> Path:
        return self._paths.lock(self._paths.folder(folder).name)


def _fault(name: str, known: KnownFile | None, promised: Expected | None, stat: FileStat, sha256: str) -> str | None:
    """Why a file with this content is damaged, if it is.

    1. A checksum file beside it says otherwise.
    2. Its content was promised when it was imported, and is another now.
    3. Nobody wrote to it, and yet it is another: the disk.
    """
    if promised is not None and promised.value != sha256:
        return f"the file {name} is damaged: its SHA-256 is not the one in {promised.said_by}"
    if known is None or known.sha256 == sha256:
        return None
    if known.fixed:
        said = f"that {known.against} named" if known.against else "it had when it was imported"
        return f"the file {name} is damaged: its SHA-256 is not the one {said}"
    if known.stat == stat:
        return f"the file {name} is damaged: its content changed although nobody wrote to it"
    return None


def _known(
    before: KnownFile | None,
    stat: FileStat,
    sha256: str,
    now: float,
    *,
    kept: bool,
    promised: Expected | None = None,
) -> KnownFile:
    against = promised.said_by if promised is not None else before.against if before is not None and kept else ""
    fixed = before is not None and before.fixed
    return KnownFile(stat=stat, sha256=sha256, checked_unix_s=now, against=against, fixed=fixed)


def _stat(path: Path) -> FileStat | None:
    try:
        return FileStat.of(path)
    except OSError:
        return None

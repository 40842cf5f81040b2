"""What the store writes down, as msgspec structs in JSON files. Times are Unix seconds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from models.weights.stats import FileStat

Read = TypeVar("Read")


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records."""


class Settings(Struct, frozen=True):
    """``quota_bytes``: of layouts and downloads together, None for as much as the disk holds. ``scrub_bytes_per_s``:
    how fast files are read again in the background, 0 for never. ``peer_bytes_per_s``: how fast they are given to
    other nodes, all of them together; 0 for as fast as it goes."""

    quota_bytes: int | None = None
    scrub_bytes_per_s: int = 16 * 2**20
    scrub_every_s: float = 7 * 86_400.0
    peer_bytes_per_s: int = 0


class KnownFile(Struct, frozen=True):
    """``fixed``: the content was promised (by the hub, by S3, by a copy), whatever the file's status says later.

    ``against``: who promised it, for people; "" when the sum is only what was found here first.
    """

    stat: FileStat
    sha256: str
    checked_unix_s: float
    against: str = ""
    fixed: bool = False


class Damage(Struct, frozen=True):
    """``stat``: of the damaged file, None when it was gone; a file put in its place is judged anew."""

    file: str
    message: str
    found_unix_s: float
    stat: FileStat | None = None


class FolderRecord(Struct, frozen=True):
    """A model's folder: its files by name, as they were when they were last read to their end."""

    folder: str
    files: dict[str, KnownFile] = {}
    damage: tuple[Damage, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the names and sums of the files: equal for equal content, wherever it lies."""
        return content_digest({name: file.sha256 for name, file in self.files.items()})


class SourceRecord(Struct, frozen=True):
    """A source that was imported. ``version``: the hub's commit, else a digest of what the other side listed.

    ``reference``: the folder is somebody else's and is only looked at. ``against``: number of files by who promised
    their checksums, "" for those that only their size was known of.
    """

    url: str
    folder: str
    version: str
    bytes: int
    imported_unix_s: float
    reference: bool = False
    against: dict[str, int] = {}


class Use(Struct, frozen=True):
    """A process that needs a folder and a layout. It ends with the process, whoever forgets to say so."""

    name: str
    pid: int
    started_ticks: int
    folder: str
    layout: str = ""


class LayoutCheck(Struct, frozen=True):
    """A layout's file as the scrub first found it, or as its manifest says."""

    stat: FileStat
    sha256: str
    checked_unix_s: float


class LayoutRecord(Struct, frozen=True):
    files: dict[str, LayoutCheck] = {}


Phase = Literal["waiting", "listing", "downloading", "checking", "done", "failed"]


class Progress(Struct, frozen=True):
    """How far an import is. ``pid``: who does it; ``resumed_bytes``: what was there from an earlier attempt."""

    source: str
    phase: Phase
    pid: int
    bytes_done: int = 0
    bytes_total: int = 0
    resumed_bytes: int = 0
    files_done: int = 0
    files_total: int = 0
    bytes_per_s: float = 0.0
    updated_unix_s: float = 0.0
    error: str | None = None

    @property
    def fraction(self) -> float:
        return self.bytes_done / self.bytes_total if self.bytes_total else 0.0


def content_digest(sums: dict[str, str]) -> str:
    """``sums``: SHA-256 by file name. 64 hex digits."""
    lines = "".join(f"{name}\0{value}\n" for name, value in sorted(sums.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def load(path: Path, kind: type[Read]) -> Read | None:
    """None when there is none, or it cannot be read: every record can be made again."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def save(path: Path, record: msgspec.Struct) -> None:
    """Never half a file. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        partial.write_bytes(msgspec.json.encode(record))
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise

"""What a node gives to others: folders that it was asked for and has offered, and nothing else of its disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from models.weights.paths import StorePaths
from models.weights.records import FolderRecord, Struct, load, save
from models.weights.selection import check_name, model_files

ID_DIGITS = 24
NODE_HEADER = "x-roundhouse-node"  # who asks: by it the rate is shared


class Share(Struct, frozen=True):
    """``source``: as catalogs name it. ``version``: of the source as its own side counts, "" where only the content
    has a name (a local folder)."""

    id: str
    folder: str
    source: str
    version: str = ""


class SharedFile(Struct, frozen=True):
    name: str
    size_bytes: int
    sha256: str


class SharedFolder(Struct, frozen=True):
    """What a node says of a share; signed with the cluster's key."""

    node: str
    version: str
    files: tuple[SharedFile, ...]


class Reading(Struct, frozen=True):
    """The answer while the sums of a folder are being computed, which nobody had asked for yet."""

    reading_bytes: int


class Shares:
    """Kept in files, so that whoever serves need not be whoever offers."""

    def __init__(self, paths: StorePaths) -> None:
        self._folder = paths.root / "shares"

    def grant(self, folder: Path, source: str, version: str = "") -> Share:
        """Other nodes of the cluster may read this folder's model from now on. Raises OSError."""
        share = Share(id=_id(folder, version), folder=str(folder), source=source, version=version)
        if load(self._file(share.id), Share) != share:
            save(self._file(share.id), share)
        return share

    def find(self, share_id: str) -> Share | None:
        if len(share_id) != ID_DIGITS or not share_id.isalnum():
            return None
        return load(self._file(share_id), Share)

    def _file(self, share_id: str) -> Path:
        return self._folder / f"{share_id}.json"


def _id(folder: Path, version: str) -> str:
    return hashlib.sha256(f"{folder}\0{version}".encode()).hexdigest()[:ID_DIGITS]


def shared_folder(node: str, share: Share, record: FolderRecord) -> SharedFolder:
    """``record``: of the folder as it is now. Raises SourceRefused for a name that no path can be made of."""
    files = tuple(
        SharedFile(name=check_name(name), size_bytes=known.stat.size_bytes, sha256=known.sha256)
        for name, known in sorted(record.files.items())
    )
    return SharedFolder(node=node, version=share.version or record.digest, files=files)


def shared_file(share: Share, record: FolderRecord | None, name: str) -> Path | None:
    """The file of this name, as long as it is what ``record`` says; None for what is not given away."""
    folder = Path(share.folder)
    known = record.files.get(name) if record is not None else None
    if known is None or model_files(folder).get(name) != known.stat:
        return None
    return folder / name

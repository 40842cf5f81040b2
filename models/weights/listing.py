"""What a node's store holds, as a document for people and programs: bytes, Unix times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.catalog.units import format_bytes
from models.weights.eviction import Item
from models.weights.layouts import LAYOUTS
from models.weights.records import FolderRecord, Progress
from models.weights.residence import residence
from models.weights.store import WeightStore


def listing(store: WeightStore) -> dict[str, Any]:
    """Bytes, Unix times; ``kind``: download, layout, partial, folder (which takes no room of the store's)."""
    items = store.items()
    known = {record.folder: record for record in store.book.all()}
    coming = {each.source: each for each in store.progress()}
    names = {record.folder: record.url for record in store.sources()}
    data = []
    for item in items:
        on_its_way = coming.pop(item.source, None) if item.kind == "partial" else None
        name = names.get(item.source, item.source) or item.path.name
        data.append(_item(store, item, name, known.get(str(item.path)), on_its_way))
    own = {str(item.path) for item in items}
    data += [_folder(store, record) for record in known.values() if record.folder not in own]
    data += [_coming(each) for each in coming.values()]
    return {
        "object": "list",
        "quota_bytes": store.settings.quota_bytes,
        "used_bytes": sum(item.bytes for item in items),
        "free_bytes": store.space.free_bytes(),
        "data": data,
    }


def _item(
    store: WeightStore, item: Item, name: str, record: FolderRecord | None, coming: Progress | None
) -> dict[str, Any]:
    found = residence(item.path.glob(LAYOUTS)) if item.kind == "layout" else store.where(item.path)
    state = item.held or "unused"
    if item.kind == "partial":
        state = _progress_text(coming) if coming is not None else "interrupted; import it again to go on"
    if record is not None and record.damage:
        state = record.damage[0].message
    return _row(
        name,
        item.kind,
        str(item.path),
        item.bytes,
        state,
        cached_fraction=None if item.kind == "partial" else found.cached_fraction,
        used_unix_s=item.used_unix_s or None,
        checked_unix_s=_checked(record),
    )


def _folder(store: WeightStore, record: FolderRecord) -> dict[str, Any]:
    folder = Path(record.folder)
    state = record.damage[0].message if record.damage else "in its place" if folder.is_dir() else "gone"
    size_bytes = sum(file.stat.size_bytes for file in record.files.values())
    fraction = store.where(folder).cached_fraction if folder.is_dir() else None
    checked = _checked(record)
    return _row(
        record.folder, "folder", record.folder, size_bytes, state, cached_fraction=fraction, checked_unix_s=checked
    )


def _coming(progress: Progress) -> dict[str, Any]:
    return _row(progress.source, "partial", "", progress.bytes_done, _progress_text(progress))


def _row(
    source: str,
    kind: str,
    path: str,
    size_bytes: int,
    state: str,
    *,
    cached_fraction: float | None = None,
    used_unix_s: float | None = None,
    checked_unix_s: float | None = None,
) -> dict[str, Any]:
    return {
        "source": source,
        "kind": kind,
        "path": path,
        "bytes": size_bytes,
        "cached_fraction": cached_fraction,
        "used_unix_s": used_unix_s,
        "checked_unix_s": checked_unix_s,
        "state": state,
    }


def _checked(record: FolderRecord | None) -> float | None:
    """When the file that was not read for the longest time was."""
    return min((file.checked_unix_s for file in record.files.values()), default=None) if record is not None else None


def _progress_text(progress: Progress) -> str:
    if progress.phase == "failed":
        return f"failed: {progress.error}"
    done = f"{format_bytes(progress.bytes_done)} of {format_bytes(progress.bytes_total)}"
    return f"{progress.phase}: {progress.fraction:.0%}, {done}, {format_bytes(int(progress.bytes_per_s))}/s"

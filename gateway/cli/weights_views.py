"""The documents of ``roundhouse weights``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.cli.weights_progress import counting
from models.weights.errors import WeightsError
from models.weights.eviction import Item
from models.weights.selection import model_files
from models.weights.store import WeightStore


def known_folders(store: WeightStore) -> dict[str, Path]:
    """By the name that people know them by."""
    sources = {record.folder: record.url for record in store.sources()}
    folders = (record.folder for record in store.book.all())
    return {sources.get(folder, folder): Path(folder) for folder in folders if Path(folder).is_dir()}


def verified(store: WeightStore, source: str, folder: Path, json: bool) -> dict[str, Any]:
    """What came of reading it."""
    result: dict[str, Any] = {"source": source, "folder": str(folder), "ok": True, "files": 0, "bytes": 0}
    try:
        size_bytes = sum(stat.size_bytes for stat in model_files(folder).values())
        with counting(source, size_bytes, quiet=json) as on_bytes:
            record = store.verify(folder, on_bytes=on_bytes)
    except WeightsError as error:
        return {**result, "ok": False, "state": error.message, "cure": error.cure}
    except OSError as error:
        return {**result, "ok": False, "state": f"cannot be read ({error.strerror})", "cure": "look at the folder"}
    against = sorted({file.against for file in record.files.values() if file.against})
    state = f"whole, as {' and '.join(against)} said" if against else "whole, as it was when it was first read"
    return {**result, "files": len(record.files), "bytes": size_bytes, "digest": record.digest, "state": state}


def removed(items: Iterable[Item], dry_run: bool) -> dict[str, Any]:
    rows = [{"kind": item.kind, "source": item.source, "path": str(item.path), "bytes": item.bytes} for item in items]
    return {"dry_run": dry_run, "freed_bytes": sum(row["bytes"] for row in rows), "removed": rows}

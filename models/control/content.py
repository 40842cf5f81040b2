"""Whether the files of a model have changed: without reading them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Source:
    """A model's folder with those of its adapters, and what their files are known by (``fingerprint``)."""

    folder: Path
    content: str
    adapters: dict[str, str] = field(default_factory=dict)  # name -> folder


def fingerprint(folder: Path) -> str:
    """Of the names, sizes and times of the files in it; "" where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            files = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)
    except OSError:
        return ""
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]

"""Where the store keeps what. Everything is below one folder, on one file system."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

_ODD = re.compile(r"[^A-Za-z0-9._@-]+")
QUICK = "quick-"  # layouts of folders whose content is not known yet, by their files' status


@dataclass(frozen=True, slots=True)
class StorePaths:
    """``layouts/<identity>/``, ``downloads/<source>-<version>/``, ``partial/`` the same; the rest are records."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def layouts(self) -> Path:
        return self.root / "layouts"

    @property
    def downloads(self) -> Path:
        return self.root / "downloads"

    @property
    def partials(self) -> Path:
        return self.root / "partial"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @property
    def uses(self) -> Path:
        return self.root / "uses"

    @property
    def stamps(self) -> Path:
        """Empty files whose times say when a layout or a download was last used."""
        return self.root / "stamps"

    @property
    def sources(self) -> Path:
        return self.root / "sources"

    @property
    def folders(self) -> Path:
        return self.root / "folders"

    @property
    def layout_checks(self) -> Path:
        return self.root / "layout-checks"

    @property
    def progress(self) -> Path:
        return self.root / "progress"

    def source(self, url: str) -> Path:
        return self.sources / f"{source_key(url)}.json"

    def progress_of(self, url: str) -> Path:
        return self.progress / f"{source_key(url)}.json"

    def folder(self, folder: Path) -> Path:
        return self.folders / f"{_short(os.fsencode(folder))}.json"

    def stamp(self, path: Path) -> Path:
        return self.stamps / f"{path.parent.name}-{path.name}"

    def lock(self, name: str) -> Path:
        return self.root / "locks" / name

    def download(self, url: str, version: str) -> Path:
        return self.downloads / self._name(url, version)

    def partial(self, url: str, version: str) -> Path:
        return self.partials / self._name(url, version)

    @staticmethod
    def _name(url: str, version: str) -> str:
        return f"{source_key(url)}-{_short(version.encode())[:12]}"


def source_key(url: str) -> str:
    """A file name for a source that people recognise."""
    _, _, rest = url.partition("://")
    return f"{_ODD.sub('-', rest or url).strip('-.')[-60:]}-{_short(os.fsencode(url))[:8]}"


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]

"""Folders in which engines keep weights in their own layout: one for each content, so that a change gives another.

1. Content that is known (every file was read once, and its status is as it was then): ``layouts/<digest>``.
2. Content that is not: ``layouts/quick-<fingerprint>`` of the files' statuses. A start is not kept waiting while
   gigabytes are read, and a change of any file is a change of the name all the same.
3. When the content becomes known, the first kind of name becomes a link to the second: what was exported stays of use,
   also for copies of the model elsewhere, and after its files' times were touched.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from models.weights.folders import FolderBook
from models.weights.locks import locked
from models.weights.paths import QUICK, StorePaths
from models.weights.space import Space

LAYOUTS = "*.safetensors"


class Layouts:
    def __init__(self, paths: StorePaths, book: FolderBook, space: Space) -> None:
        self._paths = paths
        self._book = book
        self._space = space

    def folder_for(self, source: Path) -> Path:
        """The folder for what ``source`` holds now; made if need be. Raises OSError, SourceRefused."""
        print_, digest = self._book.identity(source)
        with locked(self._paths.lock("layouts")):
            return self._place(f"{QUICK}{print_}", digest)

    def find(self, source: Path) -> Path | None:
        """The same, when it is there and holds a layout."""
        try:
            print_, digest = self._book.identity(source)
        except OSError:
            return None
        names = (f"{QUICK}{print_}",) if digest is None else (digest, f"{QUICK}{print_}")
        folders = (self._paths.layouts / name for name in names)
        return next((folder.resolve() for folder in folders if any(folder.glob(LAYOUTS))), None)

    def drop(self, source: Path) -> list[Path]:
        """Remove what was made from ``source``, by whichever name; running engines keep what they have mapped."""
        record = self._book.read(source)
        found = {self._paths.layouts / record.digest} if record is not None and record.files else set()
        for folder in self._paths.layouts.glob("*"):
            if self._space.stamped(folder)[1] == str(source):
                found.add(folder)
        real = sorted({folder.resolve() for folder in found if folder.exists()})
        for folder in real:
            self._space.remove(folder)
        return real

    def _place(self, quick: str, digest: str | None) -> Path:
        by_status = self._paths.layouts / quick
        if digest is None:
            by_status.mkdir(mode=0o755, parents=True, exist_ok=True)
            return by_status
        by_content = self._paths.layouts / digest
        if by_content.is_symlink() and not by_content.exists():
            by_content.unlink()
        if not by_content.exists():
            if by_status.is_dir():
                with contextlib.suppress(FileExistsError):
                    by_content.symlink_to(quick)
            else:
                by_content.mkdir(mode=0o755, parents=True)
        return by_content.resolve()

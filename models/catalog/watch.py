"""Notices changes of the configuration. The last good one stays in force; the caller decides when to look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.catalog.config import card_files, load_config
from models.catalog.errors import ConfigError
from models.catalog.service import ServiceConfig
from models.catalog.yaml_file import read_yaml


@dataclass(frozen=True, slots=True)
class Changed:
    config: ServiceConfig


@dataclass(frozen=True, slots=True)
class Rejected:
    error: ConfigError


Fingerprint = tuple[tuple[str, int, int, int], ...]


class ConfigWatcher:
    """Polls the configuration file and its ``models_dir`` at most every ``poll_s`` seconds.

    1. The first poll loads at once.
    2. A change is loaded only once two polls in a row saw the same files: an editor may be in the middle of writing,
       and the first half of a YAML list is a valid, shorter list.
    3. ``config`` is the last good configuration; it stays in force while a later one is rejected.
    """

    def __init__(self, path: Path, poll_s: float = 0.5) -> None:
        self._path = path
        self._poll_s = poll_s
        self._next_s = float("-inf")
        self._loaded: Fingerprint | None = None
        self._seen: Fingerprint | None = None
        self._models_dir: str | None = None
        self._rejected = False
        self.config: ServiceConfig | None = None

    def poll(self, now: float) -> Changed | Rejected | None:
        """``now``: seconds of any clock that does not run backwards. None: nothing changed that means anything."""
        if now < self._next_s:
            return None
        self._next_s = now + self._poll_s
        files = self._fingerprint()
        settled, self._seen = self._loaded is None or files == self._seen, files
        if files == self._loaded or not settled:
            return None
        return self._load()

    def read_now(self) -> Changed | Rejected | None:
        """Read the files as they are, for somebody who says that they are ready. None: they mean what is in force."""
        return self._load()

    def _load(self) -> Changed | Rejected | None:
        self._models_dir = self._find_models_dir()
        before = self._fingerprint()
        try:
            config = load_config(self._path)
        except ConfigError as error:
            self._loaded, self._rejected = before, True
            return Rejected(error)
        self._loaded = before  # taken before reading: a write during it is seen as a change at the next poll
        if config == self.config and not self._rejected:
            return None
        self.config, self._rejected = config, False
        return Changed(config)

    def _find_models_dir(self) -> str | None:
        """As named in the file now; while that cannot be read, as named before."""
        try:
            data = read_yaml(self._path, self._path.name).data
        except ConfigError:
            return self._models_dir
        named = data.get("models_dir") if isinstance(data, dict) else None
        return named if isinstance(named, str) and named else None

    def _fingerprint(self) -> Fingerprint:
        files = [self._path]
        if self._models_dir is not None:
            try:
                files += card_files(self._path, self._models_dir)
            except (OSError, ValueError):
                files.append(self._path.parent / self._models_dir)
        return tuple(_stats(files))


def _stats(files: Iterable[Path]) -> Iterable[tuple[str, int, int, int]]:
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            yield str(file), -1, -1, -1
        else:
            yield str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino


__all__ = ["Changed", "ConfigWatcher", "Rejected"]

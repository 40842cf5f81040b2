"""What is known of a source that is on other nodes only: enough for the catalog of a controller that has no copy."""

from __future__ import annotations

from pathlib import Path

import msgspec

from models.catalog.card import ModelCard
from models.catalog.source import check_source
from models.catalog.source_info import SourceInfo
from models.weights.paths import StorePaths
from models.weights.records import load, save

CONFIG = "config.json"
MOST_CONFIG_BYTES = 2**20


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``config``: its config.json. ``created_unix_s``: of that file."""

    weights_bytes: int
    architectures: tuple[str, ...] = ()
    max_model_len: int | None = None
    files: tuple[str, ...] = ()
    config: str = ""
    created_unix_s: int = 0

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(self.weights_bytes, self.architectures, self.max_model_len, self.files)


def facts_of(card: ModelCard, folder: Path) -> SourceFacts:
    """Raises SourceError for a folder that cannot be served."""
    info = check_source(card, folder)
    config = folder / CONFIG
    status = config.stat()
    return SourceFacts(
        weights_bytes=info.weights_bytes,
        architectures=info.architectures,
        max_model_len=info.max_model_len,
        files=info.files,
        config=config.read_text(errors="replace") if status.st_size <= MOST_CONFIG_BYTES else "",
        created_unix_s=int(status.st_mtime),
    )


class KnownSources:
    """Kept in the store of the controller's machine (``weights_dir``), by the whole name of the source."""

    def __init__(self, weights_dir: Path) -> None:
        self._folder = weights_dir / "known"
        self._paths = StorePaths(weights_dir)

    def learn(self, source: str, facts: SourceFacts) -> bool:
        """True when that is news. Raises OSError."""
        path = self._file(source)
        before = load(path, SourceFacts)
        if before is not None:  # each node has written its copy at a time of its own
            facts = msgspec.structs.replace(facts, created_unix_s=before.created_unix_s)
        if facts == before:
            return False
        save(path, facts)
        config = path.with_suffix("") / CONFIG
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(facts.config)
        return True

    def find(self, source: str) -> tuple[SourceFacts, Path] | None:
        """With a folder that holds its config.json and nothing else."""
        path = self._file(source)
        facts = load(path, SourceFacts)
        return None if facts is None else (facts, path.with_suffix(""))

    def _file(self, source: str) -> Path:
        return self._folder / self._paths.source(source).name

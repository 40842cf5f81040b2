"""What ``roundhouse weights`` is asked about, and what it says when it cannot be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.client import home_of
from gateway.cli.config import read_config
from gateway.cli.errors import AskedWrongly, CliError
from models.catalog.errors import UnitError
from models.catalog.problems import did_you_mean
from models.catalog.units import parse_bytes
from models.weights.errors import Busy, Damaged, NoRoom, SourceRefused, TransferFailed, WeightsError
from models.weights.hub_cache import find_snapshot, users_cache
from models.weights.urls import FolderUrl, HubUrl, SourceUrl, parse_source

if TYPE_CHECKING:
    from models.weights.records import Settings
    from models.weights.store import WeightStore

CODES = {Damaged: "damaged", NoRoom: "no_room", TransferFailed: "transfer_failed", Busy: "busy"}


@dataclass(frozen=True, slots=True)
class Target:
    """``settings``: of the store, as a configuration says; None when there is none."""

    url: SourceUrl
    settings: Settings | None = None

    def folder(self, store: WeightStore) -> Path:
        """Where it is on this node. Raises SourceRefused."""
        import os

        found = store.find(str(self.url))
        if found is None and isinstance(self.url, HubUrl):
            found = find_snapshot(users_cache(os.environ), self.url)
        if found is None and isinstance(self.url, FolderUrl) and self.url.folder.is_dir():
            found = self.url.folder
        if found is None:
            raise SourceRefused("it is not on this node", "roundhouse weights import")
        return found


def find_target(source: str, config: Path | None, home: Path | None) -> Target:
    """1. A URL. 2. A model of the catalog. 3. A folder. Raises SourceRefused, AskedWrongly."""
    path = _config_path(config, home)
    service = read_config(path) if path is not None else None
    settings = service.weights.settings() if service is not None else None
    if "://" in source:
        return Target(parse_source(source, Path.cwd()), settings)
    card = service.card(source) if service is not None else None
    if card is not None and path is not None:
        return Target(parse_source(card.model_source, path.absolute().parent), settings)
    if Path(source).expanduser().is_dir() or source.startswith((".", "/", "~")):
        return Target(parse_source(source, Path.cwd()), settings)
    known = [name for each in service.models for name in each.served_names] if service is not None else []
    raise AskedWrongly(
        f"{source!r} is no model of the catalog, no folder and no URL",
        code="unknown_source",
        cure=did_you_mean(source, known) if known else "name a folder, hf://org/repo@revision or s3://bucket/prefix",
    )


def read_size(text: str | None) -> int | None:
    try:
        return None if text is None else parse_bytes(text)
    except UnitError as error:
        raise AskedWrongly(f"--to: {error.message}", code="invalid_size", cure=error.cure) from None


@contextmanager
def refusals(source: str) -> Iterator[None]:
    """The store's errors as the command line's."""
    try:
        yield
    except SourceRefused as error:
        raise AskedWrongly(f"{source}: {error.message}", code="source_refused", cure=error.cure) from None
    except WeightsError as error:
        code = CODES.get(type(error), "failed")
        raise CliError(f"{source}: {error.message}", code=code, cure=error.cure) from None
    except OSError as error:
        raise CliError(
            f"{source}: {error.strerror or error}", code="io", cure="look at the disk and the folder"
        ) from None


def _config_path(config: Path | None, home: Path | None) -> Path | None:
    """As named; else ./roundhouse.yaml; else the one in the state folder; else none."""
    if config is not None:
        return config
    here, ours = Path("roundhouse.yaml"), home_of(home).config
    return here if here.is_file() else ours if ours.is_file() else None

"""Models named ``hf://org/repo@revision``: found in a local cache, or downloaded into ours when that is allowed.

Cache layout: ``models--org--repo/{refs/<revision>, snapshots/<commit>/...}``
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache). It is read here without importing huggingface_hub:
starting a model is quicker than that.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.catalog.card import HF_SCHEME
from models.catalog.errors import SourceError

_TRUE = frozenset({"1", "on", "yes", "true"})
WANTED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer*", "*.model")
# Pickled weights and Python code can run anything; they are not even fetched.
REFUSED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.npz", "*.py", "*.h5", "*.msgpack", "original/*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HubSource:
    repo: str
    revision: str

    @classmethod
    def parse(cls, source: str) -> HubSource:
        """``source`` has passed the card's check: ``hf://org/repo@revision``."""
        repo, _, revision = source.removeprefix(HF_SCHEME).partition("@")
        return cls(repo, revision)

    def __str__(self) -> str:
        return f"{HF_SCHEME}{self.repo}@{self.revision}"


def hub_caches(cache_dir: Path, env: Mapping[str, str]) -> tuple[Path, ...]:
    """Folders that may hold snapshots: ours first, then the user's Hugging Face cache."""
    return our_hub_cache(cache_dir), _users_cache(env)


def our_hub_cache(cache_dir: Path) -> Path:
    return cache_dir / "hub"


def is_offline(env: Mapping[str, str]) -> bool:
    return any(env.get(name, "").strip().lower() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def find_snapshot(cache: Path, source: HubSource) -> Path | None:
    """The folder of this revision in ``cache``, be it complete or not."""
    repo = cache / f"models--{source.repo.replace('/', '--')}"
    try:
        commit = (repo / "refs" / source.revision).read_text().strip()
    except (OSError, UnicodeDecodeError):
        commit = source.revision
    snapshot = repo / "snapshots" / commit
    return snapshot if commit and "/" not in commit and snapshot.is_dir() else None


def download(source: HubSource, cache_dir: Path, env: Mapping[str, str]) -> Path:
    """Fetch weights, configuration and tokenizer into our cache. Raises SourceError."""
    import huggingface_hub
    from huggingface_hub import errors

    _log.info("downloading %s", source)
    try:
        return Path(
            huggingface_hub.snapshot_download(
                source.repo,
                revision=source.revision,
                cache_dir=our_hub_cache(cache_dir),
                allow_patterns=list(WANTED),
                ignore_patterns=list(REFUSED),
                endpoint=env.get("HF_ENDPOINT"),
                token=env.get("HF_TOKEN"),
            )
        )
    except errors.GatedRepoError as error:
        raise SourceError("access to it must be asked for on the hub; then set HF_TOKEN") from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError("the hub has no such repository, or HF_TOKEN may not see it") from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"the repository has no revision {source.revision!r}") from error
    except Exception as error:  # the library's transport errors share no base class of its own, and changed twice
        _log.warning("download of %s failed", source, exc_info=True)
        raise SourceError(f"the download failed ({type(error).__name__}); check the network and try again") from error


def _users_cache(env: Mapping[str, str]) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Path(env[name]).expanduser()
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]).expanduser() / "hub"
    base = Path(env["XDG_CACHE_HOME"]) if env.get("XDG_CACHE_HOME") else Path.home() / ".cache"
    return base.expanduser() / "huggingface" / "hub"

"""The user's own Hugging Face cache, in which a model may be already: read without importing huggingface_hub.

Layout: ``models--org--repo/{refs/<revision>, snapshots/<commit>/...}``
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.weights.urls import HubUrl


def find_snapshot(cache: Path, url: HubUrl) -> Path | None:
    """The folder of this revision in ``cache``, be it complete or not."""
    repo = cache / f"models--{url.repo.replace('/', '--')}"
    try:
        commit = (repo / "refs" / url.revision).read_text().strip()
    except (OSError, UnicodeDecodeError):
        commit = url.revision
    snapshot = repo / "snapshots" / commit
    return snapshot if commit and "/" not in commit and snapshot.is_dir() else None


def users_cache(env: Mapping[str, str]) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Path(env[name]).expanduser()
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]).expanduser() / "hub"
    base = Path(env["XDG_CACHE_HOME"]) if env.get("XDG_CACHE_HOME") else Path.home() / ".cache"
    return base.expanduser() / "huggingface" / "hub"

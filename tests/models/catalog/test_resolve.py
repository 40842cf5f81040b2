"""Where a card's model is on this node: in the store, in its own folder, in the user's cache, or nowhere yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.catalog.card import ModelCard
from models.catalog.source import SourceError, SourceNotHere, check_source, resolve_source
from models.weights.hub_cache import find_snapshot, users_cache
from models.weights.store import WeightStore
from models.weights.urls import FolderUrl, HubUrl
from tests.models.catalog.folders import model_folder
from tests.models.weights.hub_server import COMMIT

URL = HubUrl("org/tiny", "main")
CARD = ModelCard(model_id="tiny", model_source=str(URL))


def cached(cache: Path, commit: str = COMMIT, ref: str | None = "main") -> Path:
    """A snapshot as the hub's own tools leave it."""
    repo = cache / "models--org--tiny"
    if ref is not None:
        (repo / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repo / "refs" / ref).write_text(commit)
    return model_folder(repo / "snapshots" / commit)


class TestUsersCache:
    @pytest.mark.parametrize(
        ("env", "where"),
        [
            ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
            ({"HUGGINGFACE_HUB_CACHE": "/a"}, "/a"),
            ({"HF_HOME": "/b"}, "/b/hub"),
            ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
            ({}, "/home/me/.cache/huggingface/hub"),
        ],
    )
    def test_it_is_where_the_hubs_tools_keep_it(self, env, where, monkeypatch):
        monkeypatch.setenv("HOME", "/home/me")
        assert users_cache(env) == Path(where)

    def test_a_revision_is_a_name_or_a_commit(self, tmp_path):
        folder = cached(tmp_path)
        assert find_snapshot(tmp_path, URL) == folder
        assert find_snapshot(tmp_path, HubUrl("org/tiny", COMMIT)) == folder
        assert find_snapshot(tmp_path, HubUrl("org/tiny", "other")) is None
        assert find_snapshot(tmp_path, HubUrl("org/other", "main")) is None
        assert find_snapshot(tmp_path / "none", URL) is None

    def test_a_pull_request_is_a_revision_too(self, tmp_path):
        folder = cached(tmp_path, ref="refs/pr/7")
        assert find_snapshot(tmp_path, HubUrl("org/tiny", "refs/pr/7")) == folder

    @pytest.mark.parametrize("commit", ["", "../../elsewhere", "a/b"])
    def test_a_broken_reference_leads_nowhere(self, tmp_path, commit):
        cached(tmp_path)
        (tmp_path / "models--org--tiny" / "refs" / "main").write_text(commit)
        assert find_snapshot(tmp_path, URL) is None


class TestWhereItIs:
    @pytest.fixture
    def env(self, tmp_path: Path) -> dict[str, str]:
        return {"HF_HOME": str(tmp_path / "users")}

    def imported(self, tmp_path: Path, card: ModelCard = CARD) -> Path:
        """As if it had been fetched from the hub: a copy of a folder under the card's name."""
        store = WeightStore(tmp_path / "store")
        record = store.fetch(FolderUrl(model_folder(tmp_path / "origin")), copy=True)
        entry = store.paths.source(str(tmp_path / "origin"))
        entry.rename(store.paths.source(card.model_source))
        return Path(record.folder)

    def resolve(self, tmp_path: Path, env: dict[str, str], card: ModelCard = CARD) -> Path:
        return resolve_source(card, tmp_path, tmp_path / "store", env)

    def test_the_store_comes_first(self, tmp_path, env):
        ours = self.imported(tmp_path)
        cached(tmp_path / "users" / "hub")
        assert self.resolve(tmp_path, env) == ours

    def test_the_users_cache_is_used_in_place(self, tmp_path, env):
        users = cached(tmp_path / "users" / "hub")
        assert self.resolve(tmp_path, env) == users

    def test_a_complete_copy_is_preferred_to_a_broken_one(self, tmp_path, env):
        (self.imported(tmp_path) / "model.safetensors").unlink()
        users = cached(tmp_path / "users" / "hub")
        assert self.resolve(tmp_path, env) == users

    def test_of_a_broken_copy_it_is_said_what_it_lacks(self, tmp_path, env):
        (cached(tmp_path / "users" / "hub") / "model.safetensors").unlink()
        folder = self.resolve(tmp_path, env)
        with pytest.raises(SourceError, match=r"from hf://org/tiny@main: the folder has no \*.safetensors weights\."):
            check_source(CARD, folder)

    @pytest.mark.parametrize("source", ["hf://org/tiny@main", "s3://bucket/tiny"])
    def test_without_a_copy_it_is_said_how_to_get_one(self, tmp_path, env, source):
        with pytest.raises(SourceNotHere) as caught:
            self.resolve(tmp_path, env, ModelCard(model_id="tiny", model_source=source))
        assert str(caught.value) == (
            f"Model 'tiny' cannot be started from {source}: its weights are not on this node; "
            "fetch them: roundhouse weights import tiny."
        )

    def test_a_copied_folder_is_used_instead_of_the_original(self, tmp_path, env):
        origin = model_folder(tmp_path / "tiny")
        card = ModelCard(model_id="tiny", model_source="tiny")
        assert self.resolve(tmp_path, env, card) == origin
        record = WeightStore(tmp_path / "store").fetch(FolderUrl(origin), copy=True)
        assert self.resolve(tmp_path, env, card) == Path(record.folder)

    def test_what_was_found_damaged_is_refused_before_an_engine_is_started(self, tmp_path, env):
        folder = self.imported(tmp_path)
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "model.safetensors").write_bytes(content)
        store = WeightStore(tmp_path / "store")
        with pytest.raises(Exception, match="is damaged"):
            store.verify(folder)
        with pytest.raises(SourceError) as caught:
            self.resolve(tmp_path, env)
        assert str(caught.value) == (
            "Model 'tiny' cannot be started from hf://org/tiny@main: the file model.safetensors is damaged: "
            "its SHA-256 is not the one it had when it was imported; put a whole copy in its place."
        )

    def test_nothing_is_written_and_no_client_is_imported_by_looking(self, tmp_path, env):
        cached(tmp_path / "users" / "hub")
        code = (
            "import sys; from pathlib import Path\n"
            "from models.catalog.card import ModelCard\n"
            "from models.catalog.source import resolve_source\n"
            f"card = ModelCard.model_validate({{'model_id': 'tiny', 'model_source': {str(URL)!r}}})\n"
            f"resolve_source(card, Path('.'), Path({str(tmp_path / 'store')!r}))\n"
            "assert not {'huggingface_hub', 'botocore', 'rich'} & sys.modules.keys()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "store").exists()

"""Models from the hub: taken from a cache where one has them, fetched by the real client where that is allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from models.catalog.card import ModelCard
from models.catalog.hub import HubSource, find_snapshot, hub_caches, is_offline
from models.catalog.source import SourceError, check_source, resolve_source
from tests.models.catalog.folders import model_folder, weights
from tests.models.catalog.hub_server import COMMIT, Hub, serve

SOURCE = HubSource("org/tiny", "main")
CARD = ModelCard(model_id="tiny", model_source=str(SOURCE))


def cached(cache: Path, commit: str = COMMIT, ref: str | None = "main") -> Path:
    """A snapshot as the hub's own tools leave it."""
    repo = cache / "models--org--tiny"
    if ref is not None:
        (repo / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repo / "refs" / ref).write_text(commit)
    return model_folder(repo / "snapshots" / commit)


class TestCaches:
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
    def test_the_users_cache_is_where_the_hubs_tools_keep_it(self, env, where, monkeypatch):
        monkeypatch.setenv("HOME", "/home/me")
        assert hub_caches(Path("/ours"), env) == (Path("/ours/hub"), Path(where))

    @pytest.mark.parametrize(
        ("value", "offline"), [("1", True), ("true", True), ("ON", True), ("0", False), ("", False)]
    )
    def test_being_offline_is_said_in_the_environment(self, value, offline):
        assert is_offline({"HF_HUB_OFFLINE": value}) is offline

    def test_a_revision_is_a_name_or_a_commit(self, tmp_path):
        folder = cached(tmp_path)
        assert find_snapshot(tmp_path, SOURCE) == folder
        assert find_snapshot(tmp_path, HubSource("org/tiny", COMMIT)) == folder
        assert find_snapshot(tmp_path, HubSource("org/tiny", "other")) is None
        assert find_snapshot(tmp_path, HubSource("org/other", "main")) is None
        assert find_snapshot(tmp_path / "none", SOURCE) is None

    def test_a_pull_request_is_a_revision_too(self, tmp_path):
        folder = cached(tmp_path, ref="refs/pr/7")
        assert find_snapshot(tmp_path, HubSource("org/tiny", "refs/pr/7")) == folder

    @pytest.mark.parametrize("commit", ["", "../../elsewhere", "a/b"])
    def test_a_broken_reference_leads_nowhere(self, tmp_path, commit):
        cached(tmp_path)
        (tmp_path / "models--org--tiny" / "refs" / "main").write_text(commit)
        assert find_snapshot(tmp_path, SOURCE) is None


class TestOffline:
    @pytest.fixture
    def env(self, tmp_path: Path) -> dict[str, str]:
        return {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "users")}

    def test_our_cache_comes_first(self, tmp_path, env):
        ours = cached(tmp_path / "cache" / "hub")
        cached(tmp_path / "users" / "hub")
        assert resolve_source(CARD, tmp_path, tmp_path / "cache", env) == ours

    def test_the_users_cache_is_used_in_place(self, tmp_path, env):
        users = cached(tmp_path / "users" / "hub")
        assert resolve_source(CARD, tmp_path, tmp_path / "cache", env) == users

    def test_a_complete_copy_is_preferred_to_a_broken_one(self, tmp_path, env):
        (cached(tmp_path / "cache" / "hub") / "model.safetensors").unlink()
        users = cached(tmp_path / "users" / "hub")
        assert resolve_source(CARD, tmp_path, tmp_path / "cache", env) == users

    def test_of_a_broken_copy_it_is_said_what_it_lacks(self, tmp_path, env):
        (cached(tmp_path / "cache" / "hub") / "model.safetensors").unlink()
        folder = resolve_source(CARD, tmp_path, tmp_path / "cache", env)
        with pytest.raises(SourceError, match=r"from hf://org/tiny@main: the folder has no \*.safetensors weights\."):
            check_source(CARD, folder)

    def test_without_a_copy_it_is_said_how_to_get_one(self, tmp_path, env):
        with pytest.raises(SourceError) as caught:
            resolve_source(CARD, tmp_path, tmp_path / "cache", env)
        assert str(caught.value) == (
            "Model 'tiny' cannot be started from hf://org/tiny@main: it is not in the local cache and downloads are "
            "off (HF_HUB_OFFLINE); run `hf download org/tiny --revision main` once."
        )

    def test_the_hubs_client_is_not_even_imported(self, tmp_path, env):
        cached(tmp_path / "cache" / "hub")
        code = RESOLVE + "\nassert 'huggingface_hub' not in sys.modules, 'imported'"
        command = [sys.executable, "-c", code, str(SOURCE), str(tmp_path / "cache")]
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


# The client reads HF_HUB_OFFLINE when it is imported, and tests run with it set: so it runs in a process of its own.
RESOLVE = """
import json, sys
from pathlib import Path
from models.catalog.card import ModelCard
from models.catalog.source import SourceError, check_source, resolve_source
card = ModelCard.model_validate({"model_id": "tiny", "model_source": sys.argv[1]})
try:
    folder = resolve_source(card, Path("."), Path(sys.argv[2]))
    print(json.dumps({"folder": str(folder), "files": list(check_source(card, folder).files)}))
except SourceError as error:
    print(json.dumps({"error": str(error)}))
"""


class TestDownload:
    FILES: ClassVar = {
        "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors": weights(),
        "pytorch_model.bin": b"a pickle",
        "modeling_tiny.py": b"print('code')",
        "training.pt": b"a pickle",
        "tokenizer.bin": b"a pickle",
        "README.md": b"# tiny",
    }

    @pytest.fixture
    def hub(self) -> Iterator[Hub]:
        with serve(Hub(dict(self.FILES))) as hub:
            yield hub

    def resolve(self, tmp_path: Path, url: str, source: str = str(SOURCE)) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
        env = kept | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "users"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-c", RESOLVE, source, str(tmp_path / "cache")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def test_only_what_a_model_needs_and_nothing_that_can_run_code(self, tmp_path, hub):
        answer = self.resolve(tmp_path, hub.url)
        assert answer["files"] == ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]
        assert sorted(hub.fetched) == answer["files"]
        assert Path(answer["folder"]).is_relative_to(tmp_path / "cache" / "hub")

    def test_what_was_fetched_is_not_asked_for_again(self, tmp_path, hub):
        first = self.resolve(tmp_path, hub.url)
        asked = hub.asked
        assert self.resolve(tmp_path, hub.url) == first
        assert hub.asked == asked

    def test_what_is_missing_is_fetched(self, tmp_path, hub):
        first = self.resolve(tmp_path, hub.url)
        (Path(first["folder"]) / "model.safetensors").unlink()
        assert self.resolve(tmp_path, hub.url) == first

    def test_a_repository_without_safetensors(self, tmp_path, hub):
        del hub.files["model.safetensors"]
        assert "the folder has no *.safetensors weights" in self.resolve(tmp_path, hub.url)["error"]

    def test_no_such_repository(self, tmp_path, hub):
        said = self.resolve(tmp_path, hub.url, "hf://org/other@main")["error"]
        assert said.endswith("hf://org/other@main: the hub has no such repository, or HF_TOKEN may not see it.")

    def test_no_such_revision(self, tmp_path, hub):
        said = self.resolve(tmp_path, hub.url, "hf://org/tiny@v9")["error"]
        assert "the repository has no revision 'v9'" in said

    def test_a_gated_repository(self, tmp_path, hub):
        hub.gated = True
        assert (
            "access to it must be asked for on the hub; then set HF_TOKEN" in self.resolve(tmp_path, hub.url)["error"]
        )

    def test_no_network(self, tmp_path, hub):
        said = self.resolve(tmp_path, "http://127.0.0.1:1")["error"]
        assert "the download failed (" in said
        assert "check the network and try again" in said

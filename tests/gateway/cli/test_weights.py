"""``roundhouse weights``: against real folders, and a hub that is none too reliable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from models.home import Home
from models.weights.records import Settings
from models.weights.store import WeightStore
from tests.gateway.cli.conftest import Cli
from tests.models.weights.conftest import hub, model, write
from tests.models.weights.hub_server import Hub

__all__ = ["hub"]
URL = "hf://org/tiny@main"
CONFIG = """\
gpus: {simulated: 1x1GiB}
weights: {quota: 1GiB}
models:
  - {model_id: tiny, model_source: m, aliases: [small]}
  - {model_id: far, model_source: "hf://org/tiny@main"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "m", model())


@pytest.fixture
def online(cli: Cli, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    return hub


def rows(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("weights", "list", "--json").json["data"]
    return found


def test_an_empty_store(cli: Cli) -> None:
    said = cli("weights")
    assert (said.status, said.out) == (0, "")
    assert "The store is empty." in said.err
    assert cli("weights", "list", "--json").json["data"] == []


def test_a_folder_is_read_once_and_stays(cli: Cli, folder: Path) -> None:
    said = cli("weights", "import", "./m")
    assert said.status == 0
    assert said.out.startswith(f"{folder} is here: 64.13 KiB in {folder}")
    assert "3 files had no checksum to agree with" in said.out
    [row] = rows(cli)
    assert (row["kind"], row["state"], row["path"]) == ("folder", "in its place", str(folder))
    assert "in its place" in cli("weights", "list").out


def test_a_model_of_the_catalog_by_any_of_its_names(cli: Cli, folder: Path, tmp_path: Path, home: Home) -> None:
    (tmp_path / "roundhouse.yaml").write_text(CONFIG)
    assert cli("weights", "import", "small", "--copy").status == 0
    [download, *_] = rows(cli)
    assert download["kind"] == "download"
    assert WeightStore(home.weights).settings.quota_bytes == 2**30, "as the configuration says"


def test_from_the_hub_with_progress_for_programs(cli: Cli, online: Hub) -> None:
    online.pause_s = 0.02
    said = cli("weights", "import", URL, "--json")
    assert said.status == 0
    *progress, result = [json.loads(line) for line in said.out.splitlines()]
    assert {each["object"] for each in progress} == {"weights.progress"}
    assert progress[0]["phase"] == "listing"
    assert any(0 < each["bytes_done"] < each["bytes_total"] for each in progress)
    assert result["checked_against"] == {"the hub": 3}
    assert result["bytes"] == sum(map(len, online.files.values()))
    assert Path(result["folder"]).is_dir()


def test_from_the_hub_with_lines_for_people(cli: Cli, online: Hub) -> None:
    said = cli("weights", "import", URL)
    assert "  3 files agree with the hub" in said.out
    assert "downloading: 0 B of 512.1" in said.err
    assert cli("weights", "verify").out.splitlines()[1].endswith("whole, as the hub said")


def test_a_dry_run_fetches_nothing(cli: Cli, online: Hub) -> None:
    said = cli("weights", "import", URL, "--dry-run")
    assert said.out.startswith(f"would fetch 512.13 KiB of 512.13 KiB from {URL}:\n  config.json\n")
    assert cli("weights", "import", URL, "--dry-run", "--json").json["files"] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert online.sent == {}
    assert rows(cli) == []


def test_an_interrupted_one_is_shown_and_goes_on(cli: Cli, online: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.weights.transfer.TRIES", 1)
    monkeypatch.setattr("models.weights.transfer.LONGEST_PAUSE_S", 0.0)
    online.cuts = [300_000, 0, 0]
    said = cli("weights", "import", URL, "--json")
    assert said.status == 1
    error = json.loads(said.out.splitlines()[-1])["error"]
    assert error["code"] == "transfer_failed"
    assert error["message"] == f"{URL}: the download failed (RemoteProtocolError)"
    [row] = rows(cli)
    assert (row["kind"], row["source"]) == ("partial", URL)
    assert row["state"].startswith("failed: the download failed")
    online.cuts = []
    assert cli("weights", "import", URL).status == 0
    assert [row["kind"] for row in rows(cli)] == ["download"]


def test_a_layout_is_shown_under_the_name_of_its_source(cli: Cli, online: Hub, home: Home) -> None:
    cli("weights", "import", URL)
    store = WeightStore(home.weights)
    copy = store.find(URL)
    assert copy is not None
    layout = store.prepare("r1", copy)
    assert layout is not None
    (layout / "key.safetensors").write_bytes(b"x")
    assert [(row["kind"], row["source"], row["state"]) for row in rows(cli)] == [
        ("layout", URL, "r1 needs it"),
        ("download", URL, "r1 needs it"),
    ]


class TestVerify:
    def test_damage_ends_with_1_and_says_what_to_do(self, cli: Cli, folder: Path) -> None:
        cli("weights", "import", "./m")
        (folder / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
        said = cli("weights", "verify", "--json")
        assert said.status == 1
        [result] = said.json["data"]
        assert not said.json["ok"]
        assert "model.safetensors is damaged: its SHA-256 is not the one in SHA256SUMS" in result["state"]
        assert result["cure"] == "put a whole copy in its place"
        assert "is damaged" in cli("weights", "list").out

    def test_one_by_name(self, cli: Cli, folder: Path) -> None:
        said = cli("weights", "verify", "./m")
        assert said.status == 0
        assert "whole, as it was when it was first read" in said.out

    def test_one_that_is_not_here(self, cli: Cli) -> None:
        said = cli("weights", "verify", URL)
        assert said.status == 2
        assert "it is not on this node" in said.err


class TestRemoveAndPrune:
    def test_a_copy_goes_the_original_stays(self, cli: Cli, folder: Path) -> None:
        cli("weights", "import", "./m", "--copy")
        assert cli("weights", "remove", "./m", "--dry-run").out.startswith("would remove download of ")
        assert len(rows(cli)) == 1
        said = cli("weights", "remove", "./m", "--json").json
        assert [each["kind"] for each in said["removed"]] == ["download"]
        assert said["freed_bytes"] == 65669
        assert rows(cli) == []
        assert folder.is_dir()

    def test_what_runs_stays(self, cli: Cli, folder: Path, home: Home) -> None:
        cli("weights", "import", "./m", "--copy")
        store = WeightStore(home.weights)
        copy = store.find(str(folder))
        assert copy is not None
        store.uses.hold("r1", os.getpid(), copy)
        said = cli("weights", "remove", "./m")
        assert said.status == 1
        assert "is in use (r1 needs it)" in said.err
        assert "cure: stop its model first" in said.err
        said = cli("weights", "prune", "--to", "0")
        assert said.status == 0
        assert "more should go, but what is left is in use" in said.err

    def test_the_quota_is_kept_on_demand(self, cli: Cli, folder: Path, home: Home) -> None:
        cli("weights", "import", "./m", "--copy")
        WeightStore(home.weights).configure(Settings(quota_bytes=1000))
        assert cli("weights", "prune", "--dry-run", "--json").json["freed_bytes"] == 65669
        assert cli("weights", "prune", "--json").json["short_bytes"] == 0
        assert rows(cli) == []


class TestAskedWrongly:
    @pytest.mark.parametrize(
        ("source", "said", "cure"),
        [
            ("tinny", "'tinny' is no model of the catalog, no folder and no URL", "did you mean tiny?"),
            ("ftp://x/y", "is of an unknown kind", "use a local folder, hf://org/repo@revision or s3://bucket/prefix"),
            ("hf://org/repo", "is not complete", "write hf://org/repo@revision, for example @main"),
            ("./none", "No such file or directory", "look at the disk and the folder"),
        ],
    )
    def test_what_cannot_be_imported(self, cli: Cli, tmp_path: Path, source: str, said: str, cure: str) -> None:
        (tmp_path / "roundhouse.yaml").write_text(CONFIG)
        found = cli("weights", "import", source)
        assert found.status in (1, 2)
        assert said in found.err
        assert f"cure: {cure}" in found.err

    def test_a_size_that_is_none(self, cli: Cli) -> None:
        assert cli("weights", "prune", "--to", "much").status == 2

    def test_pickles(self, cli: Cli, tmp_path: Path) -> None:
        write(tmp_path / "p", {"config.json": b"{}", "pytorch_model.bin": b"p"})
        said = cli("weights", "import", "./p")
        assert said.status == 2
        assert "only pickled weights (pytorch_model.bin), which are refused" in said.err
        assert "cure: convert them to safetensors" in said.err

    def test_being_offline(self, cli: Cli, online: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        said = cli("weights", "import", URL)
        assert said.status == 2
        assert "cure: unset HF_HUB_OFFLINE for this command" in said.err

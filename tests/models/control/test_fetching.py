"""A start whose weights are not here: refused with a cure, or fetched while everybody sees how far it is."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from models.catalog.card import ModelCard
from models.catalog.errors import SourceNotHere
from models.catalog.service import WeightsSettings
from models.catalog.source import SourceError
from models.control.fetching import said
from models.control.messages import ContentChanged, Fetching
from models.control.supplier import WATCH_EVERY_S
from models.fleet.protocol import StartFailed
from models.weights.child import Through
from models.weights.errors import TransferFailed
from models.weights.records import Progress, save
from models.weights.store import WeightStore
from models.weights.urls import FolderUrl
from packers.types import ModelId
from tests.models.catalog.folders import model_folder
from tests.models.control.lan import HEAD, Lan
from tests.models.control.scene import Scene as ControlScene
from tests.models.control.scene import card
from tests.models.runtimes.adapters import make_adapter

pytestmark = pytest.mark.anyio
URL = "hf://org/tiny@main"
GiB = 2**30
MODEL = ModelId("tiny")
SMALL = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}


class Scene:
    """A cluster of one machine, and a far side that the test plays."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.fetched: list[str] = []
        self.problem: Exception | None = None
        self.lan = Lan(tmp_path)
        self.lan.nodes[HEAD]._fetch = self.fetch
        self.desk, self.posted = self.lan.desk, self.lan.posted
        self.card = ModelCard.model_validate({"model_id": "tiny", "model_source": URL, "declared": {"weights": "1MiB"}})

    async def fetch(
        self, root: Path, source: str, tell: Callable[[Progress], None], through: Through | None = None
    ) -> Path:
        self.fetched.append(source)
        assert through is not None
        assert (through.peers, through.download) == ((), True)
        store = WeightStore(root)
        coming = Progress(source=source, phase="downloading", pid=os.getpid(), bytes_done=2 * GiB, bytes_total=4 * GiB)
        save(store.paths.progress_of(source), coming)
        await asyncio.sleep(1.2 * WATCH_EVERY_S)
        if self.problem is not None:
            raise self.problem
        record = store.fetch(FolderUrl(model_folder(self.root / "origin")), copy=True)
        store.paths.source(str(self.root / "origin")).rename(store.paths.source(source))
        return Path(record.folder)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_nothing_is_fetched_behind_the_operators_back(scene):
    with pytest.raises(SourceNotHere, match="fetch them: roundhouse weights import tiny"):
        await scene.desk.check(scene.card, HEAD)
    assert scene.fetched == []


async def test_where_it_is_allowed_the_start_waits_for_it(scene):
    scene.desk.configure(WeightsSettings(download=True))
    source = await scene.desk.check(scene.card, HEAD)
    assert (source.folder / "model.safetensors").exists()
    assert source.content
    assert scene.posted == [Fetching(MODEL, "downloading: 2 GiB of 4 GiB (50%), 0 B/s"), ContentChanged(MODEL)]
    await scene.desk.check(scene.card, HEAD)
    assert scene.fetched == [URL]


async def test_without_a_declared_size_no_memory_could_be_reserved(scene):
    scene.desk.configure(WeightsSettings(download=True))
    with pytest.raises(SourceNotHere, match="roundhouse weights import tiny, or declare how large they are"):
        await scene.desk.check(ModelCard(model_id="tiny", model_source=URL), HEAD)
    assert scene.fetched == []


async def test_a_download_that_fails_is_the_reason_of_the_failed_start(scene):
    scene.desk.configure(WeightsSettings(download=True))
    scene.problem = TransferFailed("the download failed (ConnectError)", "check the network and try again")
    with pytest.raises(StartFailed) as caught:
        await scene.desk.check(scene.card, HEAD)
    assert str(caught.value) == (
        "Model 'tiny' cannot be started on head from hf://org/tiny@main: the download failed (ConnectError); "
        "check the network and try again."
    )


async def test_the_store_learns_the_quota(scene):
    scene.desk.configure(WeightsSettings.model_validate({"quota": "10GiB", "scrub_rate": "1MiB", "scrub_every": "24h"}))
    found = WeightStore(scene.root / "head" / "store").settings
    assert (found.quota_bytes, found.scrub_bytes_per_s, found.scrub_every_s) == (10 * GiB, 2**20, 86_400.0)


def test_before_anybody_knows_how_much_it_is():
    assert said(Progress(source=URL, phase="listing", pid=1)) == "listing: its weights are fetched"


async def test_whoever_waits_for_the_start_is_told_how_far_it_is():
    """Seen in what is written down of the replica, and so on every screen."""
    scene = ControlScene([card("a", 50)])
    scene.fleet.start_s = 5.0
    scene.hold("a")
    await scene.run(0.5)
    scene.controller.post(Fetching(ModelId("a"), "downloading: 1 GiB of 4 GiB (25%), 0 B/s"))
    await scene.run(0.1)
    assert scene.store.fleet is not None
    [replica] = scene.store.fleet.replicas
    assert (replica.state, replica.reason) == ("starting", "downloading: 1 GiB of 4 GiB (25%), 0 B/s")
    await scene.run(6.0)
    assert scene.store.fleet.replicas[0].reason.startswith("ready after")


async def test_adapters_go_with_the_model_and_a_change_of_theirs_is_noticed(tmp_path):
    scene = Scene(tmp_path)
    model = model_folder(tmp_path / "model")
    (model / "config.json").write_text(json.dumps(SMALL))
    adapter = make_adapter(tmp_path / "head" / "pirate", model)
    adapted = ModelCard.model_validate(
        {"model_id": "tiny", "model_source": str(model), "adapters": {"pirate": "pirate"}}
    )
    before = await scene.desk.check(adapted, HEAD)
    assert before.adapters == {"pirate": str(adapter)}
    make_adapter(adapter, model, seed=2, rank=8)
    assert (await scene.desk.check(adapted, HEAD)).content != before.content
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(SourceError, match="its adapter 'pirate'"):
        await scene.desk.check(adapted, HEAD)

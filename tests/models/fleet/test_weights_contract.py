"""What every fleet answers about weights: the one in virtual time, and Ray's with a node that looks at real folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.card import ModelCard
from models.fleet.protocol import StartFailed
from models.fleet.supply import Fetching, Finding, Found, Listing, Offering, Wanted, Watching
from models.fleet.virtual import VirtualFleet
from packers.types import NodeId
from tests.models.catalog.folders import model_folder
from tests.models.fleet.conftest import Stage

pytestmark = pytest.mark.anyio


def wanted(folder: Path) -> Wanted:
    return Wanted(card=ModelCard(model_id="tiny", model_source=str(folder)), source=str(folder))


@pytest.fixture
def nowhere(stage: Stage, tmp_path: Path) -> Path:
    if isinstance(stage.fleet, VirtualFleet):
        stage.fleet.store.where[str(tmp_path / "nowhere")] = set()
        stage.fleet.store.fetch_s = 0.0
    return tmp_path / "nowhere"


async def test_a_folder_that_is_there_is_found_and_one_that_is_not_is_not(stage: Stage, nowhere: Path) -> None:
    folder = model_folder(nowhere.parent / "model")
    found = await stage.fleet.weights(stage.node.id, Finding(wanted=wanted(folder)))
    assert isinstance(found, Found)
    assert found.folder == str(folder)
    assert await stage.fleet.weights(stage.node.id, Finding(wanted=wanted(nowhere))) is None
    assert await stage.fleet.weights(stage.node.id, Offering(wanted=wanted(nowhere))) is None


async def test_what_nobody_has_cannot_be_fetched_and_the_sentence_names_the_node(stage: Stage, nowhere: Path) -> None:
    with pytest.raises(StartFailed, match=rf"'tiny' cannot be started on {stage.node.id}") as caught:
        await stage.fleet.weights(stage.node.id, Fetching(wanted=wanted(nowhere)))
    assert caught.value.fault == "weights"


async def test_the_store_can_be_listed_and_nothing_is_on_its_way(stage: Stage, nowhere: Path) -> None:
    found = await stage.fleet.weights(stage.node.id, Listing())
    assert found["object"] == "list"
    if not isinstance(stage.fleet, VirtualFleet):
        assert await stage.fleet.weights(stage.node.id, Watching(source=str(nowhere))) is None


async def test_a_node_that_is_not_there_cannot_be_asked(stage: Stage) -> None:
    with pytest.raises((StartFailed, KeyError)):
        await stage.fleet.weights(NodeId("elsewhere"), Listing())

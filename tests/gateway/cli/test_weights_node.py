"""``roundhouse weights list --node``: another machine's store, as the service has asked it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.weights_api import NodeWeights, WeightsItem
from models.home import Home
from models.weights.listing import listing
from models.weights.store import WeightStore
from models.weights.urls import FolderUrl
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FakeAdmin
from tests.models.weights.conftest import model, write

ITEM = WeightsItem(source="hf://org/far@main", kind="download", path="/x", bytes=3 * 2**20, state="unused")
FOUND = NodeWeights(node="w 1", quota_bytes=None, used_bytes=3 * 2**20, free_bytes=2**30, data=(ITEM,))


@pytest.fixture
def asked(admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> FakeAdmin:
    document = admin._document

    def with_weights(name: str, query: dict[str, str]) -> object:
        return FOUND if name == "nodes/w 1/weights" else document(name, query)

    monkeypatch.setattr(admin, "_document", with_weights)
    return admin


def test_it_is_shown_like_ones_own(cli: Cli, asked: FakeAdmin) -> None:
    said = cli("weights", "list", "--node", "w 1")
    assert said.status == 0
    assert asked.asked == ["GET /admin/v1/nodes/w 1/weights"]
    assert "hf://org/far@main" in said.out
    assert "3 MiB" in said.out
    assert cli("weights", "list", "--node", "w 1", "--json").json == msgspec.json.decode(msgspec.json.encode(FOUND))


def test_a_node_that_is_not_there_is_said(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/nodes/none/weights"] = (404, "there is no node 'none'; there are w1.", "node_not_found")
    said = cli("weights", "list", "--node", "none", "--json")
    assert said.status == 1
    assert said.error["code"] == "node_not_found"
    assert "there are w1" in said.error["message"]


def test_without_a_service_there_is_nobody_to_ask(cli: Cli) -> None:
    assert cli("weights", "list", "--node", "w1", "--json").error["code"] == "not_running"
    assert cli("weights", "list").status == 0, "of this machine: no service is needed"


def test_what_a_store_lists_has_the_shape_that_is_documented(tmp_path: Path) -> None:
    store = WeightStore(Home(tmp_path).weights)
    store.fetch(FolderUrl(write(tmp_path / "a", model())), copy=True)
    store.fetch(FolderUrl(write(tmp_path / "b", model())))
    found = msgspec.convert({**listing(store), "node": "w1"}, NodeWeights)
    assert sorted(item.kind for item in found.data) == ["download", "folder"]
    assert found.used_bytes > 0

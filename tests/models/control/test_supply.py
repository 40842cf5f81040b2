"""Weights on many nodes: wherever a model is started, what it starts from is what the controller's machine has."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from models.catalog.errors import SourceNotHere
from models.catalog.service import WeightsSettings
from models.catalog.source import SourceError
from models.control import supplier as supplier_module
from models.control.messages import ContentChanged, Fetching
from models.control.pools import PoolBook
from models.control.supplier import SILENT_LOOKS, Supplier
from models.fleet.protocol import StartFailed
from models.fleet.supply import Finding, Found, Wanted
from models.weights.errors import Damaged
from models.weights.peers.remote import Peer
from models.weights.urls import FolderUrl
from packers.types import ModelId, NodeId, Pool, PoolId, PoolKind
from tests.models.control.lan import HEAD, Lan
from tests.models.control.scene import Scene, card, fleet_node
from tests.models.runtimes.adapters import make_adapter
from tests.models.weights.conftest import MiB, model, write
from tests.models.weights.hub_server import Hub, hub_of

pytestmark = pytest.mark.anyio
W1, W2 = NodeId("w1"), NodeId("w2")
MODEL = ModelId("tiny")
URL = "hf://org/tiny@main"


@pytest.fixture
async def lan(tmp_path: Path) -> AsyncIterator[Lan]:
    found = Lan(tmp_path, "w1", "w2")
    yield found
    await found.close()


def put(lan: Lan, node: str, name: str = "model", size_bytes: int = 3 * MiB, fill: int = 1) -> Path:
    """A model's folder on that node's own disk."""
    return write(lan.root / node / name, model(size_bytes, fill))


# -- from the controller's machine ------------------------------------------------------------------------------------


async def test_on_its_own_machine_nobody_is_asked(lan: Lan) -> None:
    folder = put(lan, "head")
    source = await lan.desk.check(lan.card("model"), HEAD)
    assert source.folder == folder
    assert lan.asked == []


async def test_a_folder_that_is_only_on_the_controllers_machine_is_brought_to_the_node(lan: Lan) -> None:
    folder = put(lan, "head")
    source = await lan.desk.check(lan.card("model"), W1)
    assert source.folder.is_relative_to(lan.root / "w1" / "store" / "downloads")
    assert (source.folder / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert lan.stores[W1].find(str(folder)) == source.folder
    again = await lan.desk.check(lan.card("model"), W1)
    assert (again.folder, lan.fetches()) == (source.folder, ["Fetching w1"]), "it is there now"


async def test_what_changes_there_changes_everywhere(lan: Lan) -> None:
    put(lan, "head")
    before = await lan.desk.check(lan.card("model"), W1)
    put(lan, "head", fill=2)
    after = await lan.desk.check(lan.card("model"), W1)
    assert after.folder != before.folder
    assert after.content != before.content
    assert (after.folder / "model.safetensors").read_bytes() == model(3 * MiB, 2)["model.safetensors"]


async def test_the_same_folder_on_the_node_itself_is_used_in_its_place(lan: Lan) -> None:
    """A shared disk, or a copy by an operator: what counts is what is in it, not when it was written."""
    folder = put(lan, "head")
    os.utime(folder / "model.safetensors", (1, 1))
    lan.nodes[W1].own = lan.root  # the very same path is there
    source = await lan.desk.check(lan.card("model"), W1)
    assert source.folder == folder
    assert lan.fetches() == []


async def test_another_model_in_a_folder_of_that_name_is_not_taken_for_it(lan: Lan) -> None:
    """An operator has updated the model on the head and forgotten the nodes."""
    stale = put(lan, "w1", fill=7)
    current = put(lan, "head")
    wanted = await lan.desk._wanted(lan.card(str(current)), await lan.desk.check(lan.card(str(current)), HEAD))
    assert lan.nodes[W1].find(wanted) is None
    as_there = Wanted(card=wanted.card, source=str(stale), likeness=wanted.likeness)
    assert lan.nodes[W1].find(as_there) is None, "it is another one"
    put(lan, "w1")
    assert lan.nodes[W1].find(as_there) == Found(folder=str(stale), facts=lan.nodes[W1].find(as_there).facts)  # type: ignore[union-attr]


async def test_where_both_have_read_it_all_the_digest_decides(lan: Lan) -> None:
    """A change that no sample meets: the digest sees it."""
    from models.weights.peers.likeness import _samples

    folder = put(lan, "head")
    source = await lan.desk.check(lan.card("model"), W1)
    sampled = _samples((folder / "model.safetensors").stat().st_size)
    place = sampled[1][0] + sampled[1][1] + 10
    for path in (folder / "model.safetensors",):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
    assert (await lan.desk.check(lan.card("model"), W1)).folder == source.folder, "nobody has seen it yet"
    lan.stores[HEAD].learn(folder)
    assert (await lan.desk.check(lan.card("model"), W1)).folder != source.folder


async def test_the_next_node_gets_it_from_both_and_many_starts_fetch_once(lan: Lan) -> None:
    put(lan, "head")
    await lan.desk.check(lan.card("model"), W1)
    sources = await asyncio.gather(*(lan.desk.check(lan.card("model"), W2) for _ in range(5)))
    assert len({source.folder for source in sources}) == 1
    record = lan.stores[W2].sources()[0]
    assert record.version == lan.stores[W1].sources()[0].version
    offers = await lan.supplier._offers(W2, await lan.desk._wanted(lan.card("model"), sources[0]))
    assert {peer.node for peer in offers} == {HEAD, W1}


async def test_a_server_that_was_killed_is_started_again(lan: Lan) -> None:
    put(lan, "head")
    await lan.desk.check(lan.card("model"), W1)
    served = lan.nodes[HEAD]._served
    assert served is not None
    assert served._child is not None
    os.kill(served._child.pid, signal.SIGKILL)
    await served._child.wait()
    await lan.desk.check(lan.card("model"), W2)
    assert lan.stores[W2].sources()


async def test_a_server_ends_with_its_node_actor(lan: Lan) -> None:
    """Its standard input is closed when that process is gone, however it went."""
    put(lan, "head")
    await lan.desk.check(lan.card("model"), W1)
    served = lan.nodes[HEAD]._served
    assert served is not None
    assert served._child is not None
    assert served._child.stdin is not None
    served._child.stdin.close()
    assert await asyncio.wait_for(served._child.wait(), 10) == 0


async def test_what_is_damaged_on_the_node_is_fetched_anew(lan: Lan) -> None:
    put(lan, "head")
    card = lan.card("model")
    source = await lan.desk.check(card, W1)
    data = bytearray((source.folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (source.folder / "model.safetensors").write_bytes(data)
    with pytest.raises(Damaged):
        lan.stores[W1].verify(source.folder)
    again = await lan.desk.check(card, W1)
    assert (again.folder / "model.safetensors").read_bytes() == model(3 * MiB)["model.safetensors"]
    lan.stores[W1].verify(again.folder)


async def test_adapters_come_along(lan: Lan) -> None:
    base = put(lan, "head")
    small = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    (base / "config.json").write_text(json.dumps(small))
    adapter = make_adapter(lan.root / "head" / "pirate", base)
    source = await lan.desk.check(lan.card("model", adapters={"pirate": "pirate"}), W1)
    there = Path(source.adapters["pirate"])
    assert there.is_relative_to(lan.root / "w1" / "store")
    assert (there / "adapter_model.safetensors").read_bytes() == (adapter / "adapter_model.safetensors").read_bytes()
    assert (there / "adapter_config.json").exists()


async def test_the_quota_of_the_cluster_holds_on_every_node(lan: Lan) -> None:
    lan.desk.configure(WeightsSettings.model_validate({"quota": "2MiB", "peer_rate": "1GiB"}))
    put(lan, "head")
    with pytest.raises(StartFailed, match=r"'tiny' cannot be started on w1 from .*: it needs 3 MiB, but the quota"):
        await lan.desk.check(lan.card("model"), W1)
    assert lan.stores[W1].settings.peer_bytes_per_s == 2**30


# -- what goes wrong names its node -----------------------------------------------------------------------------------


async def test_what_is_broken_on_the_controllers_machine_is_started_nowhere(lan: Lan) -> None:
    folder = put(lan, "head")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match="has no tokenizer"):
        await lan.desk.check(lan.card("model"), W1)
    assert lan.asked == []


async def test_a_folder_that_is_nowhere_is_a_clear_refusal(lan: Lan) -> None:
    with pytest.raises(SourceError, match="the folder does not exist"):
        await lan.desk.check(lan.card("nowhere"), W1)
    with pytest.raises(
        StartFailed, match="'tiny' cannot be started on w1: its weights are on no node that answers; put the folder on"
    ):
        await lan.desk.check(lan.card("nowhere", declared={"weights": "1MiB"}), W1)


async def test_a_folder_that_only_the_nodes_have_is_served_there(lan: Lan) -> None:
    folder = put(lan, "w1")
    card = lan.card(str(folder), declared={"weights": "3MiB"})
    assert (await lan.desk.check(card, W1)).folder == folder
    there = await lan.desk.check(card, W2)
    assert there.folder.is_relative_to(lan.root / "w2" / "store")


async def test_nodes_that_do_not_answer_cost_nothing_but_their_offers(lan: Lan) -> None:
    put(lan, "head")
    lan.away.add(W2)
    await lan.desk.check(lan.card("model"), W1)
    lan.away.add(W1)
    with pytest.raises(StartFailed, match="w1 does not answer"):
        await lan.desk.check(lan.card("model"), W1)


async def test_a_wrong_secret_is_said(lan: Lan) -> None:
    put(lan, "head")
    other = lan.root / "other.secret"
    other.write_text("o" * 64)
    lan.nodes[W1]._secret_file = other
    with pytest.raises(StartFailed, match=r"cannot be started on w1 from .*head does not know this node's secret"):
        await lan.desk.check(lan.card("model"), W1)


async def test_a_node_that_falls_silent_while_it_fetches_is_given_up() -> None:
    """Its start fails, and may be tried elsewhere; the node itself may go on, and have it the next time."""

    class Hung:
        looks = 0

        async def weights(self, node: NodeId, ask: object) -> object:
            if isinstance(ask, Finding):
                return None
            if type(ask).__name__ == "Offering":
                return Peer(node="b", host="", port=1, share="")
            if type(ask).__name__ == "Watching":
                self.looks += 1
                raise StartFailed("a does not answer")
            await asyncio.Event().wait()
            raise AssertionError

    async def no_time(seconds: float) -> None:
        await asyncio.sleep(0)

    hung = Hung()
    supplier = Supplier(hung, lambda: [NodeId("a"), NodeId("b")], sleep=no_time)  # type: ignore[arg-type]
    with pytest.raises(StartFailed, match="a has not answered for 30 s while it fetched"):
        await supplier.bring(NodeId("a"), Wanted(card=card("x", 1), source="/x"), lambda progress: None)
    assert hung.looks == SILENT_LOOKS


@pytest.mark.parametrize("hangs", ["Finding", "Watching"])
async def test_a_node_whose_disk_hangs_is_given_up_although_it_answers_everything_else(
    hangs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that never comes back, where nothing else is wrong with the node, must not hold a start for ever."""
    monkeypatch.setattr(supplier_module, "FIND_S", 0.01)
    monkeypatch.setattr(supplier_module, "LOOK_S", 0.001)
    peer = Peer(node="b", host="", port=1, share="")

    class Hung:
        async def weights(self, node: NodeId, ask: object) -> object:
            kind = type(ask).__name__
            if kind in (hangs, "Fetching"):
                await asyncio.Event().wait()
            return peer if kind == "Offering" else None

    async def no_time(seconds: float) -> None:
        await asyncio.sleep(0)

    supplier = Supplier(Hung(), lambda: [NodeId("a"), NodeId("b")], sleep=no_time)  # type: ignore[arg-type]
    with pytest.raises(StartFailed, match=r"^a has not "):
        async with asyncio.timeout(10):
            await supplier.bring(NodeId("a"), Wanted(card=card("x", 1), source="/x"), lambda progress: None)


# -- from far away ----------------------------------------------------------------------------------------------------


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    with hub_of(model(2 * MiB)) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


async def test_the_node_itself_downloads_and_the_next_one_gets_it_from_there(lan: Lan, far: Hub) -> None:
    lan.desk.configure(WeightsSettings(download=True))
    declared = lan.card(URL, declared={"weights": "2MiB"})
    first = await lan.desk.check(declared, W1)
    assert lan.stores[HEAD].find(URL) is None, "the controller's machine has no use for it"
    had = far.sent_bytes
    second = await lan.desk.check(declared, W2)
    assert far.sent_bytes == had
    assert (second.folder / "model.safetensors").read_bytes() == (first.folder / "model.safetensors").read_bytes()
    assert lan.stores[W1].sources()[0].version == lan.stores[W2].sources()[0].version == far.commit


async def test_what_a_node_has_learned_the_catalog_knows_although_it_has_no_copy(lan: Lan, far: Hub) -> None:
    lan.desk.configure(WeightsSettings(download=True))
    declared = lan.card(URL, declared={"weights": "1GiB"})
    assert lan.reader.entry(declared).capabilities == ()
    await lan.desk.check(declared, W1)
    assert ContentChanged(MODEL) in lan.posted
    entry = lan.reader.entry(declared)
    assert entry.capabilities == ("generate", "tokenize")
    assert (entry.folder, entry.source) == ("", URL)
    undeclared = lan.card(URL)
    assert lan.reader.entry(undeclared).footprint.weights_bytes >= 2 * MiB, "from now on it need not be declared"
    await lan.desk.check(undeclared, W2)
    assert lan.stores[W2].find(URL) is not None
    lan.posted.clear()
    there = await lan.desk.check(declared, W1)
    os.utime(there.folder / "config.json", (1, 1))
    await lan.desk.check(declared, W1)
    assert lan.posted == [], "that was no news"


async def test_where_starts_may_not_download_only_peers_are_asked(lan: Lan, far: Hub) -> None:
    declared = lan.card(URL, declared={"weights": "2MiB"})
    with pytest.raises(StartFailed, match=r"on no node that answers; let starts fetch them \(weights: {download"):
        await lan.desk.check(declared, W1)
    assert far.asked == 0
    folder = put(lan, "head", size_bytes=2 * MiB)
    lan.stores[HEAD].fetch(FolderUrl(folder), copy=True)
    lan.stores[HEAD].paths.source(str(folder)).rename(lan.stores[HEAD].paths.source(URL))
    await lan.desk.check(declared, W1)
    assert far.asked == 0


async def test_weights_of_unknown_size_are_not_fetched_by_a_start(lan: Lan, far: Hub) -> None:
    lan.desk.configure(WeightsSettings(download=True))
    with pytest.raises(SourceNotHere, match="or declare how large they are"):
        await lan.desk.check(lan.card(URL), W1)
    assert far.asked == 0


async def test_when_nobody_waits_any_more_the_download_ends_and_what_came_stays(lan: Lan, far: Hub) -> None:
    lan.desk.configure(WeightsSettings(download=True))
    far.pause_s = 0.02
    start = asyncio.ensure_future(lan.desk.check(lan.card(URL, declared={"weights": "2MiB"}), W1))
    async with asyncio.timeout(30):
        while not far.sent.get("model.safetensors"):
            await asyncio.sleep(0.05)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await asyncio.sleep(0.3)
    sent = far.sent_bytes
    await asyncio.sleep(0.3)
    assert far.sent_bytes <= sent + 64 * 1024
    far.pause_s = 0.0
    await lan.desk.check(lan.card(URL, declared={"weights": "2MiB"}), W1)
    assert far.sent["model.safetensors"] < 2 * 2 * MiB + MiB


async def test_whoever_waits_sees_how_far_it_is(lan: Lan, far: Hub) -> None:
    lan.desk.configure(WeightsSettings(download=True))
    far.pause_s = 0.02
    await lan.desk.check(lan.card(URL, declared={"weights": "2MiB"}), W1)
    texts = [message.text for message in lan.posted if isinstance(message, Fetching)]
    assert any("of 2 MiB" in text for text in texts)


# -- as the loop sees it ----------------------------------------------------------------------------------------------


async def test_a_node_whose_neighbour_has_the_weights_is_nearer_than_the_hub() -> None:
    scene = Scene([card("a", 40)])
    world = scene.controller.world
    (model_id,) = world.entries
    world.nodes[W1] = fleet_node((100,))
    world.tiers = {scene.node.id: {model_id: "disk"}, W1: {model_id: "remote"}}
    assert world.weights_tier(model_id) == "disk"
    assert world.weights_tier(model_id, W1) == "peer"
    world.tiers[scene.node.id][model_id] = "remote"
    assert world.weights_tier(model_id, W1) == "remote"


def test_what_a_start_from_a_peer_costs_is_measured_apart() -> None:
    from models.control.costs import CostBook

    costs = CostBook()
    costs.took(MODEL, "start", "remote", 100.0)
    costs.took(MODEL, "start", "disk", 1.0)
    assert costs.startup(MODEL, "peer").disk_s in (1.0, 100.0)
    costs.took(MODEL, "start", "peer", 9.0)
    assert costs.startup(MODEL, "peer").disk_s == 9.0
    assert costs.median_s(MODEL, "start", "peer") == 9.0


async def test_nothing_starts_from_forgotten_copies(lan: Lan) -> None:
    """Whoever takes the folder away from the head has taken the model away: nothing starts from forgotten copies."""
    folder = put(lan, "head")
    await lan.desk.check(lan.card("model"), W1)
    shutil.rmtree(folder)
    with pytest.raises(SourceError, match="the folder does not exist"):
        await lan.desk.check(lan.card("model"), W1)


async def test_large_models_are_told_to_the_packer_with_the_nodes_that_have_them() -> None:
    scene = Scene([card("small", 40), card("large", 2048)], gpus_mib=(4096,))
    world = scene.controller.world
    small, large = ModelId("small"), ModelId("large")

    def near(model: ModelId) -> tuple[NodeId, ...]:
        return world._as_model(world.entries[model], world.now).near

    world.tiers = {scene.node.id: {small: "disk", large: "disk"}, W1: {small: "remote", large: "remote"}}
    assert near(large) == (), "there is one node only"
    world.nodes[W1] = msgspec.structs.replace(scene.node, id=W1, gpus=())
    assert near(large) == (scene.node.id,)
    assert near(small) == (), "a second's copying is no reason to pack worse"
    world.tiers[W1][large] = "page_cache"
    assert near(large) == (), "all have it"
    world.tiers[W1][large] = "remote"
    world.pools = PoolBook((Pool(PoolId("spot"), PoolKind.SPOT, 1.0),), (("n/*", PoolId("spot")),))
    assert near(large) == (), "copying is free, that node is not"

"""The catalog changes in the middle of things: starts, waits, requests, names."""

from __future__ import annotations

import pytest

from models.catalog.card import ModelCard
from models.control.messages import CatalogChanged
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio
OTHER = {"max_model_len": 5}  # makes another engine of a card


async def change(scene: Scene, *cards: ModelCard, seconds: float = 0.05) -> None:
    scene.cards = list(cards)
    scene.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
    await scene.run(seconds)


async def served(*cards: ModelCard, gpus_mib: tuple[int, ...] = (100,)) -> Scene:
    scene = Scene(list(cards), gpus_mib)
    scene.hold("a")
    await scene.run(2)
    assert scene.states() == {"a-1": "ready"}
    return scene


async def test_a_card_that_changes_while_its_model_starts_serves_who_waits_with_the_new_one() -> None:
    """The start that is under way comes to its end, serves nobody any longer than it must, and makes way."""
    scene = Scene([card("a", 60)], gpus_mib=(100, 100))
    scene.hold("a")
    await scene.run(0.5)
    assert scene.states() == {"a-1": "starting"}
    await change(scene, card("a", 60, engine_args=OTHER))
    await scene.run(6)
    assert scene.held == {}
    scene.hold("a")
    await scene.run(3)
    assert scene.held == {}
    (order,) = [order for order in scene.fleet.orders if order.replica_id in scene.fleet.engines]
    assert order.engine_args == OTHER
    assert "a-1" not in scene.fleet.engines


async def test_a_model_that_is_removed_while_it_starts_leaves_nothing_behind() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    scene.hold("a")
    await scene.run(0.5)
    await change(scene, card("b", 60))
    assert [route.model_id for route in scene.store.routes.models] == ["b"]
    await scene.run(3)
    assert (scene.states(), scene.fleet.engines) == ({}, {})
    scene.held.clear()
    scene.hold("b")
    await scene.run(2)
    assert list(scene.states().values()) == ["ready"], "the memory is free"


async def test_a_model_that_is_removed_stops_when_its_last_request_has_ended() -> None:
    scene = await served(card("a", 60), card("b", 30))
    scene.busy = {"a-1": 1}
    await scene.run(0.1)
    await change(scene, card("b", 30), seconds=3)
    assert [route.model_id for route in scene.store.routes.models] == ["b"], "new requests find no such model"
    assert scene.states() == {"a-1": "draining"}
    assert "stop a-1" not in scene.fleet.calls, "a stream runs"
    scene.busy = {}
    await scene.run(0.5)
    assert scene.states() == {}
    assert scene.fleet.calls[-1] == "stop a-1"


async def test_a_model_that_is_removed_while_it_sleeps_is_stopped() -> None:
    scene = await served(card("a", 60))
    scene.order("sleep", "a")
    await scene.run(1)
    assert scene.states() == {"a-1": "asleep"}
    await change(scene, seconds=1)
    assert (scene.states(), scene.fleet.engines) == ({}, {})
    assert scene.controller.world.ledger.entries() == ()


async def test_a_model_that_comes_back_before_it_was_drained_is_started_anew() -> None:
    scene = await served(card("a", 40))
    scene.busy = {"a-1": 1}
    await scene.run(0.1)
    await change(scene)
    await change(scene, card("a", 40))
    scene.hold("a")
    await scene.run(2)
    assert scene.held == {}
    scene.busy = {}
    await scene.run(1)
    assert list(scene.states().values()) == ["ready"]


async def test_a_card_that_changes_while_requests_wait_and_nothing_serves_keeps_them_waiting_for_the_new_one() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    scene.hold("b")
    await scene.run(2)
    scene.busy = {"b-1": 1}
    scene.hold("a")
    await scene.run(0.5)
    assert "a" in scene.held, "b is in the way, and busy"
    await change(scene, card("a", 50, engine_args=OTHER), card("b", 60))
    assert "a" in scene.held
    scene.busy = {}
    await scene.run(3)
    assert scene.held == {}
    assert scene.fleet.orders[-1].engine_args == OTHER


async def test_a_card_that_only_says_other_things_of_its_model_stops_no_engine() -> None:
    scene = await served(card("a", 60))
    await change(scene, card("a", 60, priority=3, max_replicas=2, ttl=99, owned_by="them"), seconds=1)
    assert scene.states() == {"a-1": "ready"}
    assert scene.route("a").owned_by == "them"
    assert scene.model("a").priority == 3


async def test_an_alias_moves_between_models_and_is_never_at_both() -> None:
    """Engines answer to the names that they were started with, so both models get new ones; who waits, waits on."""
    scene = await served(card("a", 30, aliases=["best"]), card("b", 30))
    before = scene.store.routes.version
    await change(scene, card("a", 30), card("b", 30, aliases=["best"]))
    assert scene.store.routes.version > before
    assert {route.model_id: route.aliases for route in scene.store.routes.models} == {"a": (), "b": ("best",)}
    reply = scene.order("wake", "best")
    await scene.run(2)
    told = scene.reply(reply)
    assert told is not None
    assert told.message == "b is ready"
    scene.hold("a")
    await scene.run(2)
    assert scene.held == {}
    names = {order.model_id: order.served_names for order in scene.fleet.orders}
    assert names == {"a": ("a",), "b": ("b", "best")}


async def test_a_controller_that_dies_while_a_removed_model_drains_finishes_it() -> None:
    scene = await served(card("a", 60))
    scene.busy = {"a-1": 1}
    await scene.run(0.1)
    await change(scene)
    await scene.restart_controller()
    scene.busy = {}
    await scene.run(1)
    assert (scene.states(), scene.fleet.engines) == ({}, {})


async def test_an_order_that_waits_for_a_model_that_is_removed_is_answered() -> None:
    scene = Scene([card("a", 60), card("b", 30)])
    scene.fleet.start_s = 5.0
    order = scene.order("wake", "a")
    await scene.run(0.5)
    await change(scene, card("b", 30), seconds=0.2)
    told = scene.reply(order)
    assert told is not None
    assert (told.ok, told.code) == (False, "model_not_found")
    assert "removed" in told.message

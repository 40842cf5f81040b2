"""Operators' questions about the weights of a node: answered beside the loop, which goes on meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from models.control import weights_desk
from models.control.messages import Ordered
from models.store.records import Command
from packers.types import NodeId
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio


def ask(scene: Scene, node: str) -> None:
    scene.controller.post(Ordered(Command(id="w", verb="weights", node=node)))


async def test_a_node_is_asked_and_its_answer_passed_on() -> None:
    scene = Scene([card("a", 40)])
    scene.fleet.store.where["/models/a"] = {scene.node.id}
    ask(scene, scene.node.id)
    await scene.run(0.1)
    reply = scene.reply("w")
    assert reply is not None
    assert (reply.ok, reply.message) == (True, "1 folders on n")
    assert reply.detail == {"object": "list", "data": ["/models/a"], "node": "n"}


async def test_there_is_no_such_node() -> None:
    scene = Scene([card("a", 40)])
    ask(scene, "elsewhere")
    await scene.run(0.1)
    reply = scene.reply("w")
    assert reply is not None
    assert (reply.ok, reply.code) == (False, "node_not_found")
    assert reply.message == "there is no node 'elsewhere'; these are there: n"


async def test_a_node_that_does_not_answer_keeps_nobody() -> None:
    scene = Scene([card("a", 40)])
    silent = asyncio.Event()

    async def never(node: NodeId, question: object) -> object:
        await silent.wait()
        return {"data": []}

    scene.controller._weights._ask = never
    ask(scene, scene.node.id)
    scene.hold("a")
    await scene.run(1.5)
    assert scene.reply("w") is None
    assert scene.states() == {"a-1": "ready"}
    silent.set()
    await scene.run(0.1)
    assert scene.reply("w") is not None


async def test_one_that_is_away_is_said_to_be() -> None:
    scene = Scene([card("a", 40)])
    await scene.fleet.node_away(scene.node.id)
    ask(scene, scene.node.id)
    await scene.run(0.1)
    reply = scene.reply("w")
    assert reply is not None
    assert (reply.ok, reply.code, reply.message) == (False, "node_away", "n cannot be asked: n does not answer")


async def test_one_that_never_answers_is_told_of_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_desk, "ANSWER_S", 0.01)
    scene = Scene([card("a", 40)])

    async def never(node: NodeId, question: object) -> object:
        return await asyncio.Event().wait()

    scene.controller._weights._ask = never
    ask(scene, scene.node.id)
    async with asyncio.timeout(10):
        while (reply := scene.reply("w")) is None:
            await scene.run(0.1)
    assert (reply.ok, reply.code) == (False, "node_away")

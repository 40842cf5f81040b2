"""What is looked at on the nodes, how often, and what is made of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from models.control.content import fingerprint
from models.control.onlooker import AGAIN_AFTER_S
from models.fleet.protocol import NodeLook, NodeView
from packers.types import NodeId
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio


class Watched(Scene):
    """Notes what the fleet is asked to look at."""

    def looks(self) -> list[NodeLook]:
        noted: list[NodeLook] = []
        look = self.fleet.look

        async def noting(asked: Mapping[NodeId, NodeLook]) -> dict[NodeId, NodeView]:
            noted.append(asked[self.node.id])
            return await look(asked)

        self.fleet.look = noting  # type: ignore[method-assign]
        return noted


async def test_engines_are_measured_when_they_became_ready_when_they_worked_and_now_and_then() -> None:
    scene = Watched([card("a", 40), card("b", 40)])
    asked = scene.looks()
    for model in ("a", "b"):
        scene.hold(model)
        await scene.run(1.5)
    await scene.look(1.0)
    await scene.look(1.0)
    assert [look.engines for look in asked] == [("/run/x/a-1.ctl", "/run/x/b-2.ctl"), ()], "nothing has happened since"
    scene.used["b"] = scene.clock()
    await scene.run(0.1)
    await scene.look(1.0)
    assert list(asked[-1].engines) == ["/run/x/b-2.ctl"]
    await scene.run(AGAIN_AFTER_S, step_s=0.5)
    await scene.look(1.0)
    assert list(asked[-1].engines) == ["/run/x/a-1.ctl", "/run/x/b-2.ctl"]


async def test_sleeping_and_starting_engines_are_left_alone() -> None:
    scene = Watched([card("a", 40), card("b", 40)])
    asked = scene.looks()
    scene.hold("a")
    await scene.run(1.5)
    scene.order("sleep", "a")
    await scene.run(0.5)
    scene.hold("b")
    await scene.run(0.2)
    await scene.look()
    assert asked[-1].engines == ()
    assert asked[-1].sources == {"a": "a", "b": "b"}


async def test_a_model_whose_weights_are_elsewhere_is_said_to_be_remote_until_they_are_here() -> None:
    far = card("a", 40).model_copy(update={"model_source": "hf://org/a@main"})
    scene = Scene([far])
    world = scene.controller.world
    (entry,) = world.entries.values()
    assert world.weights_tier(entry.id) is None, "its folder is known here, and nobody has looked"
    world.entries[entry.id] = replace(entry, folder="")
    await scene.run(0.1)
    assert world.weights_tier(entry.id) == "remote"
    assert scene.route("a").tier == "remote"


async def test_a_source_that_becomes_whole_is_read_again() -> None:
    scene = Scene([card("a", 40)])
    world = scene.controller.world
    (entry,) = world.entries.values()
    world.entries[entry.id] = replace(entry, folder="")
    scene.broken_sources["a"] = "there is no config.json"
    await scene.look()
    assert world.entries[entry.id].folder == ""
    scene.broken_sources.clear()
    await scene.look()
    assert world.entries[entry.id].folder == "a"
    assert scene.decided("catalog")[-1].reason == "the files of a are others now: it may be started again"


async def test_a_fleet_that_does_not_answer_changes_nothing() -> None:
    scene = Scene([card("a", 40)])
    scene.hold("a")
    await scene.run(1.5)
    before = scene.states()

    async def silent(asked: Mapping[NodeId, NodeLook]) -> dict[NodeId, NodeView]:
        return {}

    scene.fleet.look = silent  # type: ignore[method-assign]
    await scene.look()
    assert scene.states() == before


async def test_where_weights_are_is_no_reason_to_write_routes_anew_while_it_stays_the_same() -> None:
    scene = Scene([card("a", 40)])
    scene.fleet.tiers["a"] = "disk"
    await scene.look()
    version = scene.store.routes.version
    for _ in range(3):
        await scene.look(0.1)
    assert scene.store.routes.version == version
    scene.fleet.tiers["a"] = "page_cache"
    await scene.look(0.1)
    assert scene.store.routes.version > version


def test_files_are_known_by_name_size_and_time(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "nowhere") == ""
    (tmp_path / "weights").write_bytes(b"123")
    os.utime(tmp_path / "weights", ns=(1, 1))
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    os.utime(tmp_path / "weights", ns=(1, 2))
    second = fingerprint(tmp_path)
    (tmp_path / "other").touch()
    assert len({first, second, fingerprint(tmp_path)}) == 3

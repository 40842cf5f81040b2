"""The State that follows the loop's snapshots says what they say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.control.mirror import Mirror
from packers.decide import decide, decide_on
from packers.ledger import LedgerError
from packers.types import GpuId, ModelId, Snapshot
from tests.models.control.scene import MIB, Scene, card
from tests.models.control.test_recording import snapshots


def same(state_snapshot: Snapshot, given: Snapshot) -> None:
    for name in ("gpus", "nodes", "replicas", "models", "pools"):
        found, wanted = getattr(state_snapshot, name), getattr(given, name)
        assert {one.id: one for one in found} == {one.id: one for one in wanted}, name


@settings(max_examples=100, deadline=None)
@given(st.lists(snapshots(), min_size=2, max_size=5))
def test_whatever_comes_next_it_is_followed(days: list[Snapshot]) -> None:
    """Also when everything changes at once."""
    mirror = Mirror()
    for number, snapshot in enumerate(days):
        state = mirror.follow(snapshot)
        same(state.snapshot(snapshot.id, snapshot.now_s), snapshot)
        assert decide_on(state, snapshot.id, snapshot.now_s) == decide(snapshot), number


def test_one_may_take_what_another_leaves_in_the_same_step() -> None:
    async def run() -> None:
        scene = Scene([card("a", 60), card("b", 60)])
        scene.hold("a")
        await scene.run(2)
        world, mirror = scene.controller.world, Mirror()
        full = world.snapshot(scene.clock())
        mirror.follow(full)
        (replica,) = full.replicas
        other = replace(replica, id=type(replica.id)("b-9"), model=ModelId("b"))
        swapped = replace(full, replicas=(other,))
        same(mirror.follow(swapped).snapshot("x", 0.0), swapped)

    asyncio.run(run())


def test_a_snapshot_that_contradicts_itself_is_refused_and_the_next_good_one_is_followed() -> None:
    async def run() -> None:
        scene = Scene([card("a", 60)])
        scene.hold("a")
        await scene.run(2)
        good, mirror = scene.controller.world.snapshot(scene.clock()), Mirror()
        mirror.follow(good)
        (replica,) = good.replicas
        twice = replace(good, replicas=(replica, replace(replica, id=type(replica.id)("a-9"))))
        with pytest.raises(LedgerError):
            mirror.follow(twice)
        same(mirror.follow(good).snapshot("x", 0.0), good)

    asyncio.run(run())


def test_a_gpu_that_is_drained_meanwhile_and_one_that_grows() -> None:
    async def run() -> None:
        scene = Scene([card("a", 60)], gpus_mib=(100, 100))
        before, mirror = scene.controller.world.snapshot(1.0), Mirror()
        mirror.follow(before)
        scene.controller.world.cordoned.add(GpuId("n/gpu-0"))
        drained = scene.controller.world.snapshot(2.0)
        assert [gpu.cordoned for gpu in drained.gpus] == [True, False]
        same(mirror.follow(drained).snapshot("x", 0.0), drained)
        larger = replace(drained, gpus=(replace(drained.gpus[0], memory_bytes=500 * MIB), drained.gpus[1]))
        same(mirror.follow(larger).snapshot("x", 0.0), larger)

    asyncio.run(run())

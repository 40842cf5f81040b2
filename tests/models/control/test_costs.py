"""Measured costs: medians by transition and tier, and what policies are told."""

from __future__ import annotations

import pytest

from models.control.catalog import USUAL_SLOTS
from models.control.costs import KEPT, WEIGHTS_TIERS, CostBook, cost_name
from packers.types import DEFAULT_START, ModelId, StartTimes
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio
A, B = ModelId("a"), ModelId("b")


def book(**starts_s: float) -> CostBook:
    made = CostBook()
    for tier, took_s in starts_s.items():
        made.took(A, "start", tier, took_s)
    return made


def test_costs_are_the_median_of_the_last_ones() -> None:
    made = CostBook()
    for took_s in (9.0, 0.3, 0.2):
        made.took(A, "start", "disk", took_s)
    made.took(A, "wake", "host", 0.05)
    assert made.medians_s(A) == {"start_disk": 0.3, "wake": 0.05}
    assert made.startup(A, "disk") == StartTimes(disk_s=0.3, host_s=0.05)
    assert made.startup(B, "disk") == DEFAULT_START
    for _ in range(KEPT):
        made.took(A, "start", "disk", 1.0)
    assert made.startup(A, "disk").disk_s == 1.0


def test_a_start_costs_what_it_costs_from_where_the_weights_are_now() -> None:
    made = book(page_cache=0.2, disk=3.0, remote=60.0)
    assert [made.startup(A, tier).disk_s for tier in ("page_cache", "disk", "remote")] == [0.2, 3.0, 60.0]


@pytest.mark.parametrize(
    ("known", "asked", "expected_s"),
    [
        ({"page_cache": 0.2}, "remote", 0.2),
        ({"page_cache": 0.2, "disk": 3.0}, "remote", 3.0),
        ({"remote": 60.0, "page_cache": 0.2}, "disk", 0.2),
        ({"remote": 60.0}, "page_cache", 60.0),
        ({"disk": 3.0}, "somewhere", 3.0),
        ({}, "disk", DEFAULT_START.disk_s),
    ],
)
def test_a_tier_that_was_never_started_from_costs_as_much_as_the_nearest(
    known: dict[str, float], asked: str, expected_s: float
) -> None:
    assert book(**known).startup(A, asked).disk_s == expected_s


def test_cold_starts_sleeps_and_stops_are_no_usual_starts() -> None:
    made = CostBook()
    made.took(A, "cold_start", "disk", 30.0)
    made.took(A, "sleep", "gpu", 0.4)
    made.took(A, "stop", "host", 0.1)
    assert made.startup(A, "disk") == DEFAULT_START
    assert made.medians_s(A) == {"cold_start": 30.0, "sleep": 0.4, "stop": 0.1}
    assert cost_name("stop", "gpu") == cost_name("stop", "host")


def test_a_single_median_is_of_that_transition_from_there_or_not_known() -> None:
    made = book(disk=3.0)
    made.took(A, "start", "disk", 5.0)
    made.took(A, "wake", "host", 0.3)
    assert made.median_s(A, "start", "disk") == 4.0
    assert made.median_s(A, "wake", "host") == 0.3
    assert made.median_s(A, "start", "remote") is None
    assert made.median_s(B, "start", "disk") is None


def test_what_was_remembered_counts_until_it_is_measured_again() -> None:
    old, new = book(disk=9.0, page_cache=1.0), book(disk=2.0)
    new.recall(old.remembered())
    assert new.medians_s(A) == {"start_disk": 2.0, "start_page_cache": 1.0}
    new.forget(A)
    assert new.medians_s(A) == {}


async def test_every_transition_of_a_replica_is_timed_by_the_tier_it_began_from() -> None:
    scene = Scene([card("a", 60)])
    scene.fleet.start_s, scene.fleet.wake_s, scene.fleet.sleep_s, scene.fleet.stop_s = 2.0, 0.3, 0.2, 0.1
    for tier in reversed(WEIGHTS_TIERS):
        scene.fleet.tiers["a"] = tier
        scene.fleet.start_s /= 2
        await scene.look()
        assert scene.route("a").tier == tier
        scene.hold("a")
        await scene.run(3)
        scene.order("stop", "a")
        await scene.run(1)
    scene.hold("a")
    await scene.run(1)
    for verb in ("sleep", "wake"):
        scene.order(verb, "a")
        await scene.run(1)
    costs_s = scene.model("a").costs_s
    expected_s = {
        "start_remote": 1.0,
        "start_peer": 0.5,
        "start_disk": 0.25,
        "start_page_cache": 0.125,
        "wake": 0.3,
        "sleep": 0.2,
        "stop": 0.1,
    }
    assert costs_s == pytest.approx(expected_s, abs=0.05)
    assert scene.model("a").weights_tier == "page_cache"
    await scene.run(3)
    counted = {(m.transition, m.tier): m.counts[-1] for m in scene.store.meters.transitions}
    assert counted == {
        ("start", "remote"): 1,
        ("start", "peer"): 1,
        ("start", "disk"): 1,
        ("start", "page_cache"): 2,
        ("wake", "host"): 1,
        ("sleep", "gpu"): 1,
        ("stop", "gpu"): 4,
    }
    for meter in scene.store.meters.transitions:
        assert list(meter.counts) == sorted(meter.counts)
        assert len(meter.counts) == len(scene.store.meters.bounds_s) + 1


async def test_policies_are_told_what_a_start_from_the_present_tier_costs() -> None:
    scene = Scene([card("a", 60)])
    scene.controller.world.history.took(A, "start", "page_cache", 0.2)
    scene.controller.world.history.took(A, "start", "disk", 8.0)
    seen = []
    for tier in WEIGHTS_TIERS[:2]:
        scene.fleet.tiers["a"] = tier
        await scene.look()
        seen.append(scene.controller.world.snapshot(scene.clock()).models[0].startup.disk_s)
    assert seen == [0.2, 8.0]


async def test_gateways_are_told_what_was_measured_of_a_start_from_where_the_model_is() -> None:
    scene = Scene([card("a", 60)])
    scene.fleet.start_s, scene.fleet.wake_s = 2.0, 0.3
    await scene.look()
    assert scene.route("a").start_estimate_s is None, "what is only expected sends no caller away"
    scene.hold("a")
    await scene.run(3)
    assert scene.route("a").start_estimate_s == pytest.approx(2.0, abs=0.05)
    for verb in ("sleep", "wake", "sleep"):
        scene.order(verb, "a")
        await scene.run(1)
    assert scene.route("a").tier == "host"
    assert scene.route("a").start_estimate_s == pytest.approx(0.3, abs=0.05)
    scene.order("stop", "a")
    await scene.run(1)
    assert scene.route("a").start_estimate_s == pytest.approx(2.0, abs=0.05)
    scene.fleet.tiers["a"] = "remote"
    await scene.look()
    assert scene.route("a").start_estimate_s is None


async def test_gateways_are_told_how_many_requests_a_replica_takes() -> None:
    scene = Scene([card("a", 30), card("b", 30, engine_args={"max-num-seqs": 12})])
    for model in ("a", "b"):
        scene.hold(model)
    await scene.run(3)
    assert [scene.route(model).replicas[0].slots for model in ("a", "b")] == [USUAL_SLOTS, 12]


async def test_the_wait_for_other_loads_on_the_same_gpu_is_no_part_of_the_cost() -> None:
    scene = Scene([card("a", 30), card("b", 30)])
    scene.hold("a")
    scene.hold("b")
    await scene.run(3)
    assert scene.model("b").costs_s["start_disk"] == pytest.approx(1.0, abs=0.05)
    assert [call for call in scene.fleet.calls if call.startswith("start")] == ["start a-1", "start b-2"]


async def test_costs_outlive_the_controller() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(2)
    await scene.restart_controller(remembers=True)
    await scene.run(0.1)
    assert scene.model("a").costs_s["start_disk"] == pytest.approx(1.0, abs=0.05)


def test_what_was_asked_before_is_asked_anew_when_something_was_measured() -> None:
    made = CostBook()
    assert made.startup(ModelId("m"), "disk") == StartTimes()
    made.took(ModelId("m"), "start", "disk", 3.0)
    assert made.startup(ModelId("m"), "disk").disk_s == 3.0
    made.recall({"m": {"wake": (0.5,)}})
    assert made.startup(ModelId("m"), "disk").host_s == 0.5
    made.forget(ModelId("m"))
    assert made.startup(ModelId("m"), "disk") == StartTimes()

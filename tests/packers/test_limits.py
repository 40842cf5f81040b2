"""Where a model may go at all, and where it would rather."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packers.limits import NO_LIMITS, Limits, limits
from packers.state import State
from packers.types import Gpu, GpuId, Model, ModelId, NodeId, Pool, PoolId, PoolKind
from tests.packers.worlds import ASLEEP, DRAINING, STARTING, model, replica, world

GPU = Gpu(GpuId("n/0"), NodeId("n"), 0, 100, "L4")


@pytest.mark.parametrize(
    ("where", "gpu", "why"),
    [
        (NO_LIMITS, GPU, None),
        (NO_LIMITS, replace(GPU, cordoned=True), "cordoned"),
        (NO_LIMITS, replace(GPU, closed="n is away"), "n is away"),
        (NO_LIMITS.avoiding([GpuId("n/0")]), GPU, "a start failed there lately"),
        (NO_LIMITS.avoiding([GpuId("n/1")]), GPU, None),
        (Limits(types=("L4", "H100")), GPU, None),
        (Limits(types=("A10", "H100")), GPU, "not of type A10 or H100"),
        (Limits(excluded=frozenset({NodeId("n")})), GPU, "kept apart by anti_affinity"),
        (Limits(wanted=frozenset({NodeId("o")}), unwanted=frozenset({NodeId("n")})), GPU, None),
    ],
)
def test_a_gpu_is_refused_for_a_reason(where: Limits, gpu: Gpu, why: str | None) -> None:
    assert where.refusal(gpu) == why


def excluded(of: Model, *others: Model, states: tuple = (None,)) -> list[str]:
    there = [replica(f"b-{place}", "n/0", 10, state) for place, state in enumerate(states) if state]
    state = State.of(world({"n/0": 100, "o/0": 100}, [of, *others], there))
    return sorted(limits(of, state.index, state.surroundings, {}).excluded)


def test_neighbours_are_those_that_serve_start_or_still_drain() -> None:
    apart = replace(model("a"), anti_affinity=(ModelId("b"),))
    assert excluded(apart, model("b")) == []
    for state in (STARTING, DRAINING):
        assert excluded(apart, model("b"), states=(state,)) == ["n"]
    assert excluded(apart, model("b"), states=(ASLEEP,)) == []


def test_either_of_two_may_say_that_they_are_kept_apart_and_take_it_back() -> None:
    state = State.of(world({"n/0": 100}, [model("a"), model("b")], [replica("b", "n/0")]))
    apart = replace(model("b"), anti_affinity=(ModelId("a"),))
    seen = []
    for card in (apart, model("b"), apart, None):
        if card is None:
            state.drop_model(ModelId("b"))
        else:
            state.put_model(card)
        seen.append(sorted(limits(model("a"), state.index, state.surroundings, {}).excluded))
    assert seen == [["n"], [], ["n"], []]


def test_what_a_decision_brings_somewhere_is_a_neighbour_already() -> None:
    apart = replace(model("a"), anti_affinity=(ModelId("b"),), affinity=(ModelId("c"),))
    state = State.of(world({"n/0": 100, "o/0": 100}, [apart, model("b"), model("c")]))
    entered = {ModelId("b"): {NodeId("o")}, ModelId("c"): {NodeId("n")}}
    found = limits(apart, state.index, state.surroundings, entered)
    assert (sorted(found.excluded), sorted(found.wanted)) == (["o"], ["n"])


def test_only_what_has_to_be_there_avoids_gpus_that_may_be_taken_away() -> None:
    there = world({"n/0": 100, "o/0": 100}, [])
    spot = tuple(replace(gpu, pool=PoolId("spot")) if gpu.node == "n" else gpu for gpu in there.gpus)
    state = State.of(replace(there, gpus=spot, pools=(Pool(PoolId("spot"), PoolKind.SPOT, reclaims_per_hour=0.1),)))
    for of, unwanted in ((model("a"), []), (model("a", priority=1), ["n"]), (model("a", min_replicas=1), ["n"])):
        assert sorted(limits(of, state.index, state.surroundings, {}).unwanted) == unwanted

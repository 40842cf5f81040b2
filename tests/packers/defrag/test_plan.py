"""Consolidation: few moves, each of which pays, and nothing over capacity on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.decide import decide_on
from packers.defrag.moves import Budget, Move, Way
from packers.defrag.plan import DEFRAG, moves
from packers.state import State
from packers.types import GpuId, ModelId, Replica, ReplicaId, ReplicaState, Snapshot
from tests.packers.defrag.towns import NOW_S, READY, carry_out, shuffled, towns
from tests.packers.worlds import MIB, PLAIN, footprint, model, replica, short, world

LATER_S = NOW_S
PLENTY = Budget(moves=100)


def plan(snapshot: Snapshot, budget: Budget = PLENTY) -> tuple[Move, ...]:
    return moves(State.of(snapshot), LATER_S, budget)


def went(found: tuple[Move, ...]) -> list[str]:
    return [f"{move.replica} to {' '.join(move.target)}" for move in found]


def order_of(state: State) -> float:
    """Sum of squared levels: what consolidation raises."""
    free = state.index.soon.gpu
    used = ((gpu.memory_bytes - free[gpu.id], gpu.memory_bytes) for gpu in state.gpus.values())
    return sum(one * one / memory for one, memory in used)


def test_two_half_empty_gpus_become_a_full_one_and_an_empty_one():
    there = world(
        {"n/0": 100, "n/1": 100}, [model("a", 40), model("b", 60)], [replica("a", "n/0", 40), replica("b", "n/1", 60)]
    )
    (move,) = plan(there)
    assert went((move,)) == ["a-1 to n/1"]
    # 2 s (s + b - a) / m = 2 x 40 x (40 + 60 - 40) / 100 = 48 of 100
    assert move.gain_gpus == pytest.approx(0.48)
    # 40 of 100 held twice for the 10 s of a start
    assert move.cost_gpu_s == pytest.approx(4.0)
    assert (move.unavailable_s, move.start_s, move.moved_bytes) == (0.0, 10.0, 20 * MIB)
    assert "moves from n/0 to n/1, which is then 100% full: 0.48 GPU gained for 4.0 GPU-seconds" in move.reason


def test_a_move_is_a_start_that_replaces_and_later_a_stop():
    there = world(
        {"n/0": 100, "n/1": 100}, [model("a", 40), model("b")], [replica("a", "n/0", 40), replica("b", "n/1")]
    )
    (move,) = plan(there)
    assert (move.start.gpu, move.start.replaces, move.start.footprint) == ("n/1", "a-1", footprint(40))
    assert (move.stop.replica, move.stop.gpu) == ("a-1", "n/0")

    state = State.of(there)
    substitute = Replica(
        ReplicaId("a-2"), ModelId("a"), GpuId("n/1"), ReplicaState.STARTING, footprint(40), replaces=ReplicaId("a-1")
    )
    state.put_replica(substitute)
    assert "stop a-1" not in short(decide_on(state, "s", LATER_S, PLAIN))
    state.put_replica(replace(substitute, state=ReplicaState.READY))
    assert "stop a-1" in short(decide_on(state, "s", LATER_S, PLAIN))
    state.drop_replica(ReplicaId("a-1"))
    assert "stop a-1" not in short(decide_on(state, "s", LATER_S, PLAIN))


def test_a_move_under_way_counts_against_the_budget():
    gpus = {"n/0": 100, "n/1": 100, "n/2": 100}
    models = [model("a", 20), model("b", 30), model("c", 60)]
    replicas = [replica("a", "n/0", 20), replica("b", "n/1", 30), replica("c", "n/2", 60, busy=1)]
    substitute = replace(replica("a-2", "n/2", 20, ReplicaState.STARTING), replaces=ReplicaId("a-1"), in_flight=0)
    there = world(gpus, models, [*replicas, substitute])
    assert went(plan(there, Budget(moves=1))) == []
    # b (30) has no room next to c (60) and a-2 (20), and does not go where a-1 is leaving.
    assert went(plan(there, Budget(moves=2))) == []
    assert went(plan(world(gpus, models, replicas[1:]), Budget(moves=2))) == ["b-1 to n/2"]


def test_one_makes_room_for_another_when_only_both_together_pay():
    # c (30) fits nowhere as it is: 75 + 30 > 100. When small (10) has gone to n/2, it fits.
    there = world(
        {"n/0": 100, "n/1": 100, "n/2": 100},
        [model("big", 65), model("small", 10), model("c", 30), model("full", 90)],
        [
            replica("big", "n/1", 65, busy=1),
            replica("small", "n/1", 10),
            replica("c", "n/0", 30),
            replica("full", "n/2", 90),
        ],
    )
    # Alone, small gains 0.05 GPU over 15 s, for 1 GPU-second.
    found = plan(there, Budget(moves=2, payback_s=15))
    assert went(found) == ["small-1 to n/2", "c-1 to n/1"]
    assert found[0].after == ()
    assert found[1].after == ("small-1",)
    assert plan(there, Budget(moves=1, payback_s=15)) == ()


def test_what_does_not_pay_is_left():
    # Nearly nothing gained: 2 x 30 x (30 + 71 - 100) / 100, for 30 of 100 held twice over 10 s.
    there = world(
        {"n/0": 100, "n/1": 101},
        [model("a", 30), model("b", 70), model("c", 71)],
        [replica("a", "n/0", 30), replica("b", "n/0", 70), replica("c", "n/1", 71)],
    )
    assert plan(there, Budget(moves=5, payback_s=10)) == ()
    spread = world(
        {"n/0": 100, "n/1": 100}, [model("a"), model("b", 40)], [replica("a", "n/0"), replica("b", "n/1", 40)]
    )
    assert plan(spread, Budget(moves=5, payback_s=0)) == ()
    assert len(plan(spread, Budget(moves=5))) == 1


@pytest.mark.parametrize(
    "stays",
    [
        {"pinned": True},
        {"busy": 1},
        {"state": ReplicaState.STARTING},
        {"state": ReplicaState.ASLEEP, "residue": 40},
        {"state": ReplicaState.DRAINING, "to": ReplicaState.DEAD},
    ],
)
def test_who_is_never_moved_by_choice(stays):
    there = world(
        {"n/0": 100, "n/1": 100},
        [model("a", 40), model("b", 60)],
        [replica("a", "n/0", 40, **stays), replica("b", "n/1", 60, busy=1)],
    )
    assert plan(there) == ()


def test_a_pinned_model_a_fresh_replica_and_one_that_the_caller_has_plans_for_stay():
    def there(**kwargs):
        return world(
            {"n/0": 100, "n/1": 100},
            [model("a", 40, **kwargs), model("b", 60, pinned=True)],
            [replica("a", "n/0", 40), replica("b", "n/1", 60)],
        )

    assert plan(there(pinned=True)) == ()
    assert moves(State.of(there()), LATER_S, PLENTY, touched=[ReplicaId("a-1")]) == ()
    fresh = [replace(one, state_since_s=LATER_S - 30) for one in there().replicas]
    assert plan(replace(there(), replicas=tuple(fresh))) == ()
    assert len(plan(replace(there(), replicas=tuple(fresh)), Budget(moves=1, settle_s=20))) == 1


def test_types_cordons_and_rivals_are_respected():
    gpus = {"n/0": 100, "m/0": 100}
    replicas = [replica("a", "n/0", 40), replica("b", "m/0", 60)]
    models = [model("a", 40), model("b", 60, pinned=True)]
    assert len(plan(world(gpus, models, replicas))) == 1
    assert plan(world(gpus, [replace(models[0], gpu_types=("H100",)), models[1]], replicas)) == ()
    assert plan(world(gpus, [models[0], replace(models[1], anti_affinity=(ModelId("a"),))], replicas)) == ()
    cordoned = world(gpus, models, replicas)
    gpus_now = tuple(replace(gpu, cordoned=gpu.id == "m/0") for gpu in cordoned.gpus)
    assert plan(replace(cordoned, gpus=gpus_now)) == ()


def test_bytes_are_limited_too():
    there = world(
        {"n/0": 100, "n/1": 100}, [model("a", 40), model("b", 60)], [replica("a", "n/0", 40), replica("b", "n/1", 60)]
    )
    assert plan(there, Budget(moves=5, moved_bytes=20 * MIB - 1)) == ()
    assert len(plan(there, Budget(moves=5, moved_bytes=20 * MIB))) == 1
    assert plan(there, Budget(moves=5, moved_bytes=0)) == ()


def test_none_moves_nothing_and_no_gpus_are_no_trouble():
    there = world(
        {"n/0": 100, "n/1": 100}, [model("a", 40), model("b")], [replica("a", "n/0", 40), replica("b", "n/1")]
    )
    assert DEFRAG["none"](State.of(there), LATER_S, PLENTY, ()) == ()
    assert len(DEFRAG["ours"](State.of(there), LATER_S, PLENTY, ())) == 1
    assert plan(world({}, [model("a")])) == ()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"moves": -1}, "budget.moves"),
        ({"moved_bytes": -1}, "budget.moved_bytes"),
        ({"payback_s": float("nan")}, "budget.payback_s"),
        ({"payback_s": float("inf")}, "budget.payback_s"),
        ({"settle_s": -0.1}, "budget.settle_s"),
    ],
)
def test_a_budget_that_makes_no_sense_names_its_field(wrong, words):
    with pytest.raises(ValueError, match=words):
        Budget(**wrong)


BUDGETS = st.builds(
    Budget,
    moves=st.integers(0, 6),
    moved_bytes=st.none() | st.integers(0, 100 * MIB),
    payback_s=st.sampled_from((0.0, 60.0, 600.0)),
    settle_s=st.just(0.0),
)


@settings(max_examples=300, deadline=None)
@given(town=towns(), budget=BUDGETS)
def test_every_plan_keeps_to_its_budget_fits_at_every_step_and_moves_only_who_may(town, budget):
    state = State.of(town)
    found = moves(state, NOW_S, budget)
    assert state.snapshot("town", NOW_S) == State.of(town).snapshot("town", NOW_S), "planning changed the State"
    assert len(found) <= budget.moves
    assert budget.moved_bytes is None or sum(move.moved_bytes for move in found) <= budget.moved_bytes
    assert len({move.replica for move in found}) == len(found)
    models = {one.id: one for one in town.models}
    for move in found:
        one = state.replicas[move.replica]
        assert one.state is READY
        assert not one.in_flight
        assert not one.pinned
        assert not models[one.model].pinned
        assert move.way is Way.OVERLAP
        assert move.source == one.gpus
        target = state.gpus[move.target[0]]
        assert not target.cordoned
        assert not models[one.model].gpu_types or target.name in models[one.model].gpu_types
    before = order_of(state)
    cost_gpu_s = sum(move.cost_gpu_s for move in found)
    gain_gpus = sum(move.gain_gpus for move in found)
    carry_out(state, found)  # raises OverCapacity
    largest = max(gpu.memory_bytes for gpu in town.gpus)
    assert (order_of(state) - before) / largest == pytest.approx(gain_gpus, abs=1e-6)
    assert gain_gpus * budget.payback_s >= cost_gpu_s - 1e-6


@settings(max_examples=150, deadline=None)
@given(town=towns())
def test_a_move_that_waits_for_none_fits_at_once(town):
    state = State.of(town)
    for move in moves(state, NOW_S, Budget(moves=6, settle_s=0)):
        if not move.after:
            alone = State.of(town)
            carry_out(alone, (move,))  # raises OverCapacity


@settings(max_examples=150, deadline=None)
@given(town=towns(), budget=BUDGETS)
def test_the_order_in_which_things_are_listed_changes_nothing(town, budget):
    assert moves(State.of(town), NOW_S, budget) == moves(State.of(shuffled(town)), NOW_S, budget)


@settings(max_examples=100, deadline=None)
@given(town=towns(groups=False, all_settled=True))
def test_moves_come_to_an_end(town):
    state = State.of(town)
    for _ in range(100):
        found = moves(state, NOW_S, Budget(moves=1, settle_s=0))
        if not found:
            return
        for move in found:
            one = state.replicas[move.replica]
            state.drop_replica(one.id)
            state.put_replica(replace(one, gpu=move.target[0]))
    raise AssertionError("it never comes to rest")

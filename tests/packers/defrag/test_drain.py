"""Drains: a GPU or a node becomes empty, and nobody who is wanted goes without."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.defrag.drain import Drain, free_gpu, free_node
from packers.defrag.moves import Move, Way
from packers.ledger import UnknownGpu, UnknownNode
from packers.state import State
from packers.types import GpuId, NodeId, Replica, ReplicaId, ReplicaState, Snapshot, Start, StartTimes, Stop
from tests.packers.defrag.towns import NOW_S, READY, carry_out_drain, shuffled, towns
from tests.packers.worlds import MIB, model, replica, world

N0 = GpuId("n/0")


def drain(snapshot: Snapshot, gpu: str = "n/0", deadline_s: float | None = None) -> Drain:
    return free_gpu(State.of(snapshot), NOW_S, GpuId(gpu), deadline_s)


def short(found: Drain) -> list[str]:
    return [
        f"stop {step.replica}" if isinstance(step, Stop) else f"{step.replica} to {' '.join(step.target)}"
        for step in found.steps
    ]


def test_idle_and_busy_ones_move_and_the_busy_one_gets_its_substitute_first():
    there = world(
        {"n/0": 100, "n/1": 100, "n/2": 50},
        [model("idle", 40), model("busy", 30)],
        [replica("idle", "n/0", 40), replica("busy", "n/0", 30, busy=3)],
    )
    found = drain(there)
    assert short(found) == ["busy-1 to n/2", "idle-1 to n/1"]
    assert found.empties
    assert (found.unavailable_s, found.moved_bytes) == (0.0, 35 * MIB)
    starts = found.actions()
    assert [(one.model, one.gpu, one.replaces) for one in starts if isinstance(one, Start)] == [
        ("busy", "n/2", "busy-1"),
        ("idle", "n/1", "idle-1"),
    ]
    assert len(starts) == 2


def test_with_room_for_one_the_wanted_one_gets_it():
    there = world(
        {"n/0": 100, "n/1": 50},
        [model("idle", 50), model("wanted", 45, min_replicas=1)],
        [replica("idle", "n/0", 50), replica("wanted", "n/0", 45)],
    )
    found = drain(there)
    assert short(found) == ["wanted-1 to n/1", "stop idle-1"]
    assert "nobody asks for it and no other GPU has room; its next start takes 10 s" in found.steps[1].reason
    assert found.empties


def test_a_wanted_one_that_fits_nowhere_stays_and_says_why():
    there = world({"n/0": 100, "n/1": 40}, [model("a", 60, held=1)], [replica("a", "n/0")])
    found = drain(there)
    assert (found.steps, found.empties) == ((), False)
    assert [(stay.replica, stay.why) for stay in found.stays] == [
        ("a-1", "it is wanted, and another GPU would need 60 MiB free")
    ]


def test_a_spare_replica_of_a_model_may_end_but_not_below_its_minimum():
    there = world(
        {"n/0": 100, "n/1": 60},
        [model("a", 40, min_replicas=2, max_replicas=3)],
        [replica("a-1", "n/0", 40), replica("a-2", "n/0", 40), replica("a-3", "n/1", 40)],
    )
    found = drain(there)
    # One of the two on n/0 is needed and has no room; the other one is spare.
    assert short(found) == ["stop a-1"]
    assert [stay.replica for stay in found.stays] == ["a-2"]


def test_what_sleeps_stops_what_starts_is_waited_for_and_what_leaves_leaves():
    there = world(
        {"n/0": 200, "n/1": 100},
        [model("asleep", 30), model("coming", 30), model("going", 30), model("gone", 30)],
        [
            replica("asleep", "n/0", 30, ReplicaState.ASLEEP, residue=5),
            replica("coming", "n/0", 30, ReplicaState.STARTING),
            replica("going", "n/0", 30, ReplicaState.DRAINING, to=ReplicaState.DEAD),
        ],
    )
    found = drain(there)
    assert short(found) == ["stop asleep-1"]
    assert found.waits == ("going-1",)
    assert [(stay.replica, stay.why) for stay in found.stays] == [
        ("coming-1", "it is starting; it leaves once it serves")
    ]


def test_one_with_a_substitute_on_the_way_is_not_moved_twice():
    there = world(
        {"n/0": 100, "n/1": 100},
        [model("a", 40)],
        [
            replica("a", "n/0", 40),
            replace(replica("a-2", "n/1", 40, ReplicaState.STARTING), replaces=ReplicaId("a-1")),
        ],
    )
    found = drain(there)
    assert (found.steps, found.waits, found.empties) == ((), ("a-1",), True)


def test_a_pinned_one_stays_unless_the_gpu_is_taken_away():
    there = world({"n/0": 100, "n/1": 100}, [model("a", 40)], [replica("a", "n/0", 40, pinned=True)])
    assert [stay.why for stay in drain(there).stays] == ["it is pinned"]
    taken = drain(there, deadline_s=30.0)
    assert (short(taken), taken.unavailable_s) == (["a-1 to n/1"], 0.0)
    # It is gone after 4 s, and its substitute serves after 10 s.
    assert drain(there, deadline_s=4.0).unavailable_s == pytest.approx(6.0)


def test_an_idle_replica_elsewhere_makes_room():
    there = world(
        {"n/0": 100, "n/1": 100, "n/2": 40},
        [model("a", 60, held=1), model("big", 30), model("other", 55)],
        [replica("a", "n/0"), replica("big", "n/1", 30), replica("other", "n/1", 55, busy=1)],
    )
    assert not drain(there).empties, "55 busy + 60 are too much for n/1"
    roomy = world(
        {"n/0": 100, "n/1": 100, "n/2": 40},
        [model("a", 60, held=1), model("idle", 30), model("other", 35)],
        [replica("a", "n/0"), replica("idle", "n/1", 30), replica("other", "n/1", 35, busy=1)],
    )
    found = drain(roomy)
    assert short(found) == ["idle-1 to n/2", "a-1 to n/1"]
    assert [step.after for step in found.steps if isinstance(step, Move)] == [(), ("idle-1",)]
    assert [one.gpu for one in found.actions() if isinstance(one, Start)] == ["n/2"], "the second has to wait"
    pinned = replace(roomy, replicas=(roomy.replicas[0], replace(roomy.replicas[1], pinned=True), roomy.replicas[2]))
    assert not drain(pinned).empties


def group(name: str, mib: int, gpu: str, peer: str, busy: int = 0) -> Replica:
    return replace(replica(name, gpu, mib, busy=busy), peers=(GpuId(peer),))


def test_a_group_moves_to_two_gpus_of_one_node_or_leaves_first_where_it_overlaps():
    pair = replace(model("pair", 60), tensor_parallel=2)
    elsewhere = world({"n/0": 100, "n/1": 100, "m/0": 100, "m/1": 100}, [pair], [group("pair", 60, "n/0", "n/1")])
    found = drain(elsewhere)
    assert short(found) == ["pair-1 to m/0 m/1"]
    assert (found.unavailable_s, found.moved_bytes) == (0.0, 60 * MIB)

    tight = world({"n/0": 100, "n/1": 100, "n/2": 100}, [pair], [group("pair", 60, "n/0", "n/1")])
    found = drain(tight)
    (step,) = found.steps
    assert isinstance(step, Move)
    assert (step.target, step.way, step.unavailable_s) == (("n/1", "n/2"), Way.GAP, 10.0)
    assert "it is away for 10 s" in step.reason
    assert [type(one) for one in found.actions()] == [Stop]

    busy = world({"n/0": 100, "n/1": 100, "n/2": 100}, [pair], [group("pair", 60, "n/0", "n/1", busy=1)])
    assert not drain(busy).empties, "no gap for a busy one at leisure"
    assert drain(busy, deadline_s=20.0).empties


def test_a_node_is_emptied_whole():
    there = world(
        {"n/0": 100, "n/1": 100, "m/0": 100},
        [model("a", 40, held=1), model("b", 50, held=1), model("s", 20)],
        [replica("a", "n/0", 40), replica("b", "n/1", 50), replica("s", "n/1", 20, ReplicaState.ASLEEP)],
    )
    found = free_node(State.of(there), NOW_S, NodeId("n"))
    assert short(found) == ["b-1 to m/0", "a-1 to m/0", "stop s-1"]
    assert found.empties


def test_slow_starts_count_and_unknown_places_are_named():
    slow = replace(model("a", 40), startup=StartTimes(disk_s=90.0))
    there = world({"n/0": 100, "n/1": 100}, [slow], [replica("a", "n/0", 40)])
    (step,) = drain(there).steps
    assert isinstance(step, Move)
    assert step.start_s == 90.0
    assert step.cost_gpu_s == pytest.approx(36.0)
    assert step.gain_gpus == pytest.approx(0.4)
    with pytest.raises(UnknownGpu, match="n/9"):
        drain(there, "n/9")
    with pytest.raises(UnknownNode, match="x"):
        free_node(State.of(there), NOW_S, NodeId("x"))


@settings(max_examples=300, deadline=None)
@given(town=towns(), data=st.data())
def test_no_step_of_a_drain_goes_over_capacity_and_afterwards_only_what_stays_is_there(town, data):
    state = State.of(town)
    gpu = data.draw(st.sampled_from(sorted(state.gpus)))
    deadline_s = data.draw(st.sampled_from((None, 5.0)))
    found = free_gpu(state, NOW_S, gpu, deadline_s)
    assert state.snapshot("town", NOW_S) == State.of(town).snapshot("town", NOW_S)
    models = {one.id: one for one in town.models}
    there = {one.id for one in state.index.on_gpu(gpu)}
    for step in found.steps:
        one = state.replicas[step.replica]
        pinned = one.pinned or models[one.model].pinned
        if isinstance(step, Stop):
            assert one.id in there
            assert not one.in_flight
            assert not pinned or deadline_s is not None
        else:
            assert gpu not in step.target
            assert not any(state.gpus[target].cordoned for target in step.target)
            if one.id not in there:
                assert not pinned, "moved by choice"
                assert not one.in_flight, "moved by choice"
            assert not pinned or deadline_s is not None
    carry_out_drain(state, found)  # raises OverCapacity
    left = {one.id for one in state.index.on_gpu(gpu)}
    assert left == {stay.replica for stay in found.stays}
    assert found.empties == (not left)


@settings(max_examples=150, deadline=None)
@given(town=towns(), data=st.data())
def test_what_can_be_ordered_now_fits_now_all_together(town, data):
    state = State.of(town)
    gpu = data.draw(st.sampled_from(sorted(state.gpus)))
    for number, action in enumerate(free_gpu(state, NOW_S, gpu).actions()):
        if isinstance(action, Start):
            started = Replica(
                ReplicaId(f"new-{number}"), action.model, action.gpu, READY, action.footprint, peers=action.peers
            )
            state.put_replica(started)  # raises OverCapacity


@settings(max_examples=100, deadline=None)
@given(town=towns(), data=st.data())
def test_the_order_in_which_things_are_listed_changes_no_drain(town, data):
    gpu = data.draw(st.sampled_from(sorted(one.id for one in town.gpus)))
    assert free_gpu(State.of(town), NOW_S, gpu) == free_gpu(State.of(shuffled(town)), NOW_S, gpu)
    node = data.draw(st.sampled_from(sorted(one.id for one in town.nodes)))
    assert free_node(State.of(town), NOW_S, node) == free_node(State.of(shuffled(town)), NOW_S, node)


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(5, 60), min_size=1, max_size=5),
    rooms=st.lists(st.integers(0, 90), min_size=1, max_size=4),
)
def test_a_drain_empties_the_gpu_whenever_what_is_wanted_there_can_be_put_elsewhere(sizes, rooms):
    """Brute force over every way to put each of them on each of the other GPUs. Nothing else may move: all are busy."""
    gpus = {"n/0": 400} | {f"n/{number}": 100 for number in range(1, len(rooms) + 1)}
    models, replicas = [], []
    for number, mib in enumerate(sizes):
        models.append(model(f"w{number}", mib, in_flight=1))
        replicas.append(replica(f"w{number}", "n/0", mib, busy=1))
    for number, room in enumerate(rooms, start=1):
        models.append(model(f"x{number}", 100 - room, in_flight=1))
        replicas.append(replica(f"x{number}", f"n/{number}", 100 - room, busy=1))
    possible = any(
        all(
            sum(mib for mib, place in zip(sizes, chosen, strict=True) if place == number) <= room
            for number, room in enumerate(rooms)
        )
        for chosen in itertools.product(range(len(rooms)), repeat=len(sizes))
    )
    state = State.of(world(gpus, models, replicas))
    found = free_gpu(state, NOW_S, N0)
    assert found.empties == possible
    carry_out_drain(state, found)
    assert bool(state.index.on_gpu(N0)) != possible


def test_many_replicas_are_drained_too():
    models = [model(f"m{number:03}", 1, held=1) for number in range(90)]
    replicas = [replica(one.id, "n/0", 1) for one in models]
    state = State.of(world({"n/0": 100, "n/1": 50, "n/2": 50}, models, replicas))
    found = free_gpu(state, NOW_S, N0)
    assert found.empties
    carry_out_drain(state, found)
    assert not state.index.on_gpu(N0)


def test_a_replica_of_no_catalog_is_stopped_when_idle():
    there = world({"n/0": 100, "n/1": 100}, [], [replica("a", "n/0", 40), replica("b", "n/0", 40, busy=1)])
    found = drain(there)
    assert short(found) == ["stop a-1"]
    assert [stay.why for stay in found.stays] == ["it is busy, and its model is in no catalog"]

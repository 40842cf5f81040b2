"""What an operator is told before anything moves: the moves, what they are good for, and who stays and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.decide import Policies, decide
from packers.defrag.moves import Budget
from packers.defrag.plan import moves
from packers.defrag.survey import Order, Survey, survey
from packers.state import State
from packers.types import GpuId, Guarantee, Replica, ReplicaId, Snapshot, Start
from tests.packers.defrag.towns import NOW_S, READY, STARTING, carry_out, towns
from tests.packers.worlds import ASLEEP, MIB, PLAIN, model, replica, world

AT_LEISURE = Budget(moves=10, settle_s=0.0)


def look(there: Snapshot, budget: Budget = AT_LEISURE) -> Survey:
    return survey(State.of(there), there.now_s, budget)


def why(there: Snapshot, budget: Budget = AT_LEISURE) -> dict[str, str]:
    return {str(stay.replica): stay.why for stay in look(there, budget).stays}


def halves(**of_a: object) -> Snapshot:
    return world(
        {"n/0": 100, "n/1": 100},
        [model("a", 40), model("b", 60)],
        [replica("a", "n/0", 40, **of_a), replica("b", "n/1", 60)],  # type: ignore[arg-type]
    )


def test_two_half_empty_gpus_become_one_full_and_one_empty() -> None:
    found = look(halves())
    assert [move.replica for move in found.moves] == ["a-1"]
    assert found.before == Order(2, 0, 100 * MIB, 60 * MIB)
    assert found.after == Order(2, 1, 100 * MIB, 100 * MIB)
    assert found.gain_gpus == pytest.approx(0.48)
    assert found.moved_bytes == 20 * MIB
    assert found.cost_gpu_s == pytest.approx(4.0)
    assert [stay.replica for stay in found.stays] == ["b-1"]


def test_a_cordoned_gpu_is_none_that_could_be_used() -> None:
    there = halves()
    closed = replace(there, gpus=tuple(replace(gpu, cordoned=gpu.id == "n/1") for gpu in there.gpus))
    assert look(closed).before == Order(1, 0, 60 * MIB, 60 * MIB)
    assert [move.target for move in look(closed).moves] == [("n/0",)], "off it, but not onto it"


def test_memory_that_is_guaranteed_to_others_is_no_room() -> None:
    kept = replace(halves(), guarantees=(Guarantee("team", GpuId("n/1"), 30 * MIB),))
    found = look(kept)
    assert [move.replica for move in found.moves] == ["b-1"], "from there, for a does not fit beside it"
    assert found.before.free_bytes == 70 * MIB
    both = replace(kept, guarantees=(*kept.guarantees, Guarantee("team", GpuId("n/0"), 30 * MIB)))
    assert why(both) == {
        "a-1": "no other GPU in use has 40 MiB free for it",
        "b-1": "no other GPU in use has 60 MiB free for it",
    }


def test_each_that_stays_says_why() -> None:
    a, b = model("a", 40), model("b", 60)
    one, other = replica("a", "n/0", 40), replica("b", "n/1", 60)

    def of(changed: Replica, *models: object) -> str:
        return why(world({"n/0": 100, "n/1": 100}, models or [a, b], [changed, other]))["a-1"]  # type: ignore[arg-type]

    assert of(one, replace(a, pinned=True), b) == "it is pinned"
    assert of(replace(one, state=STARTING)) == "it is starting"
    asleep = replica("a", "n/0", 40, ASLEEP, residue=5)
    assert of(asleep) == "it sleeps; its next start may go elsewhere"
    assert of(one, b) == "its model is in no catalog"
    away = world({"n/0": 100, "n/1": 100}, [a, b], [one, other])
    away = replace(away, gpus=tuple(replace(gpu, closed="its node is away") for gpu in away.gpus))
    assert why(away) == {f"{name}-1": f"n/{place} is closed: its node is away" for place, name in enumerate("ab")}
    assert why(halves(busy=3))["a-1"] == "it is busy: 3 requests in flight"
    there = replace(halves(), replicas=tuple(replace(each, state_since_s=990.0) for each in halves().replicas))
    assert why(there, Budget(moves=9)) == dict.fromkeys(("a-1", "b-1"), "it is there for 10 s only, and stays for 60 s")
    assert why(halves(), replace(AT_LEISURE, stay=(ReplicaId("a-1"),)))["a-1"] == "its move has failed before"


def test_where_it_has_no_room_and_where_it_would_not_pay() -> None:
    full = world({"n/0": 100, "n/1": 100}, [model("a", 60), model("b", 60)], [replica("a", "n/0"), replica("b", "n/1")])
    assert why(full)["a-1"] == "no other GPU in use has 60 MiB free for it"
    dear = replace(AT_LEISURE, payback_s=1.0)
    assert why(halves(), dear)["a-1"] == "moving it would gain less than it costs"


def test_what_is_on_the_move_already_stays_out_of_it() -> None:
    there = halves()
    substitute = replace(replica("a-2", "n/1", 40, STARTING), replaces=ReplicaId("a-1"))
    moving = replace(there, replicas=(*there.replicas, substitute))
    assert why(moving) == {
        "a-1": "it is on the move already",
        "a-2": "it takes the place of a-1",
        "b-1": "no other GPU in use has 60 MiB free for it",
    }


def test_busy_ones_move_where_the_budget_says_so() -> None:
    assert [move.replica for move in look(halves(busy=3)).moves] == ["b-1"]
    willing = look(halves(busy=3), replace(AT_LEISURE, busy=True))
    assert [move.replica for move in willing.moves] == ["a-1"]


def test_of_the_moves_that_are_planned_so_many_are_made_at_a_time() -> None:
    there = world(
        {f"n/{index}": 100 for index in range(4)},
        [model(name, 30) for name in "abcd"],
        [replica(name, f"n/{index}", 30) for index, name in enumerate("abcd")],
    )

    def begun(budget: Budget) -> list[Start]:
        plan = decide(there, replace(PLAIN, defrag="ours", defrag_budget=budget))
        return [action for action in plan.actions if isinstance(action, Start)]

    assert len(begun(AT_LEISURE)) == len(look(there).moves) == 2
    (one,) = begun(replace(AT_LEISURE, at_once=1))
    assert one.replaces == look(there).moves[0].replica
    assert one.gain_gpus == pytest.approx(look(there).moves[0].gain_gpus)
    assert one.cost_gpu_s == pytest.approx(3.0)
    busy_with_it = replace(
        there, replicas=(*there.replicas, replace(replica("a-2", "n/1", 30, STARTING), replaces=ReplicaId("a-1")))
    )
    plan = decide(busy_with_it, Policies(defrag="ours", defrag_budget=replace(AT_LEISURE, at_once=1)))
    assert not [action for action in plan.actions if isinstance(action, Start)]


def test_a_budget_of_none_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match=r"budget\.at_once must be at least 1"):
        Budget(at_once=0)


@settings(max_examples=60, deadline=None)
@given(towns(groups=False), st.integers(0, 5), st.booleans())
def test_it_is_the_plan_and_everybody_is_accounted_for(there: Snapshot, most: int, busy: bool) -> None:
    budget = Budget(moves=most, settle_s=0.0, busy=busy)
    state = State.of(there)
    found = survey(state, NOW_S, budget)
    assert state.snapshot(there.id, there.now_s) == State.of(there).snapshot(there.id, there.now_s)
    if not state.index.substitutes:
        assert found.moves == moves(state, NOW_S, budget)
    moved = {move.replica for move in found.moves}
    settled = {one.id for one in there.replicas if one.state in (READY, STARTING, ASLEEP)}
    named = {stay.replica for stay in found.stays} | moved
    assert named <= {one.id for one in there.replicas}
    assert {one for one in settled if state.replicas[one].draining_to is None} <= named
    assert found.after.empty_gpus >= found.before.empty_gpus
    if not any(gpu.cordoned for gpu in there.gpus):
        assert found.after.free_bytes == found.before.free_bytes
    for move in found.moves:
        assert not state.replicas[move.replica].in_flight or busy
    carry_out(state, found.moves)

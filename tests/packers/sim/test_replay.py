from __future__ import annotations

from dataclasses import replace

from packers.decide import Policies, decide
from packers.sim import replay
from packers.types import Demand, Hold, Plan, Replica, ReplicaId, ReplicaState, Snapshot, Start
from tests.packers.sim.scenes import model, world


def snapshot(number: int, held: int) -> Snapshot:
    there = world([model("a", 4), model("b", 6)], gpus=(10, 8))
    models = tuple(replace(one, demand=Demand(held=held, oldest_wait_s=1.0)) for one in there.models)
    return Snapshot(str(number), 100.0, there.gpus, there.nodes, (), models)


def recorded(policies: Policies) -> list[tuple[Snapshot, Policies, Plan]]:
    taken = [snapshot(number, held) for number, held in enumerate((0, 1, 5))]
    return [(one, policies, decide(one, policies)) for one in taken]


def test_what_was_recorded_here_is_decided_again() -> None:
    assert replay(recorded(Policies())) == []
    assert replay(recorded(Policies(placement="first-fit"))) == []


def test_a_changed_action_is_found() -> None:
    decisions = recorded(Policies())
    seen, policies, plan = decisions[1]
    start = plan.actions[0]
    assert isinstance(start, Start)
    decisions[1] = (seen, policies, replace(plan, actions=(replace(start, reason="because"), *plan.actions[1:])))
    (found,) = replay(decisions)
    assert (found.number, found.snapshot_id, found.place) == (1, "1", 0)
    assert found.decided == start
    assert "decision 1 (snapshot 1), action 0" in str(found)


def test_missing_and_further_actions_are_found() -> None:
    decisions = recorded(Policies())
    seen, policies, plan = decisions[2]
    decisions[2] = (seen, policies, replace(plan, actions=plan.actions[:-1]))
    (found,) = replay(decisions)
    assert found.recorded is None
    decisions[2] = (seen, policies, replace(plan, actions=(*plan.actions, Hold(seen.models[0].id, "why not"))))
    (found,) = replay(decisions)
    assert found.decided is None


def test_with_other_policies_only_what_is_done_counts() -> None:
    decisions = recorded(Policies(placement="best-fit"))
    assert replay(decisions, Policies(placement="best-fit")) == []
    found = replay(decisions, Policies(placement="first-fit"))
    assert found
    assert all(one.recorded != one.decided for one in found)


def test_a_busy_world_decides_the_same_from_its_snapshot() -> None:
    there = world([model("a", 4), model("b", 6)])
    sleeping = Replica(
        ReplicaId("a-1"), there.models[0].id, there.gpus[0].id, ReplicaState.READY, there.models[0].footprint, 2
    )
    models = tuple(replace(one, demand=Demand(in_flight=2, held=3)) for one in there.models)
    seen = Snapshot("7", 50.0, there.gpus, there.nodes, (sleeping,), models)
    assert replay([(seen, Policies(), decide(seen))]) == []

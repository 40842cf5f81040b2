"""The rules that no plan may break, in worlds with everything in them."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from packers.autoscale.registry import AUTOSCALING
from packers.decide import Policies, decide_on
from packers.defrag.moves import Budget
from packers.defrag.plan import DEFRAG
from packers.eviction import EVICTION
from packers.ledger import leaving
from packers.placement import RULES
from packers.state import State
from packers.types import (
    GpuId,
    Hold,
    Model,
    NodeId,
    Refuse,
    Replica,
    ReplicaId,
    Resize,
    Sleep,
    Snapshot,
    Start,
    Stop,
    Wake,
)
from tests.packers.test_plans import _mixed
from tests.packers.wide import carry_out, wide_worlds
from tests.packers.worlds import ASLEEP, DEAD, READY, STARTING, decide

POLICIES = st.builds(
    Policies,
    placement=st.sampled_from(sorted(RULES)),
    eviction=st.sampled_from(sorted(EVICTION)),
    defrag=st.sampled_from(sorted(DEFRAG)),
    defrag_budget=st.builds(Budget, moves=st.integers(0, 3), settle_s=st.sampled_from([0.0, 60.0])),
    patience_s=st.sampled_from((None, 0.0, 30.0)),
    prewarm=st.booleans(),
    scaling=st.sampled_from(sorted(AUTOSCALING)),
    look_at=st.sampled_from([1, 2, 32]),
)


@settings(max_examples=300, deadline=None)
@given(wide_worlds(), POLICIES)
def test_every_prefix_of_a_plan_fits_and_puts_things_only_where_they_may_be(
    world: Snapshot, policies: Policies
) -> None:
    """The State refuses whatever goes over capacity, a group across nodes, and a GPU twice in a group."""
    state = State.of(world)
    models = {one.id: one for one in world.models}
    for place, action in enumerate(decide(world, policies).actions):
        if isinstance(action, Start | Wake):
            model = models[action.model]
            gpus = [state.gpus[gpu] for gpu in (action.gpu, *action.peers)]
            assert not any(gpu.cordoned for gpu in gpus)
            assert not _rivals_on(gpus[0].node, model, models, state)
        if isinstance(action, Start):
            assert len(gpus) == model.tensor_parallel
            assert all(gpu.name in model.gpu_types for gpu in gpus) or not model.gpu_types
            assert model.footprint.gpu_min_bytes <= action.footprint.gpu_bytes <= model.footprint.gpu_bytes
        if isinstance(action, Wake):
            one = state.replicas[action.replica]
            assert (action.gpu, *action.peers) == one.gpus or model.wakes_anywhere
            assert state.gpus[one.gpu].node == gpus[0].node
        carry_out(state, action, place)


def _rivals_on(node: NodeId, model: Model, models: dict, state: State) -> list[Replica]:
    apart = set(model.anti_affinity) | {one.id for one in models.values() if model.id in one.anti_affinity}
    return [
        one
        for one in state.replicas.values()
        if one.model in apart and state.gpus[one.gpu].node == node and one.state not in (ASLEEP, DEAD)
    ]


def _others_serve(one: Replica, world: Snapshot, touched: list[ReplicaId]) -> bool:
    """So that autoscaling may let a surplus one finish what it has and go."""
    return any(
        other.model == one.model and other.state is READY and other.id not in touched for other in world.replicas
    )


@settings(max_examples=300, deadline=None)
@given(wide_worlds(), POLICIES)
def test_nobody_pinned_busy_or_leaving_is_evicted_and_nobody_is_touched_twice(
    world: Snapshot, policies: Policies
) -> None:
    replicas, models = {one.id: one for one in world.replicas}, {one.id: one for one in world.models}
    plan = decide(world, policies)
    touched = [action.replica for action in plan.actions if isinstance(action, Wake | Sleep | Stop | Resize)]
    assert len(touched) == len(set(touched))
    served = {one.replaces for one in world.replicas if one.state is READY}
    for action in plan.actions:
        assert action.reason
        if not isinstance(action, Sleep | Stop):
            continue
        one = replicas[action.replica]
        assert one.state in (READY, ASLEEP)
        assert not leaving(one)
        if action.evicted_for is not None or one.id not in served:
            assert not one.in_flight or (action.evicted_for is None and _others_serve(one, world, touched))
            assert not one.pinned
            assert not (one.model in models and models[one.model].pinned)


@settings(max_examples=200, deadline=None)
@given(wide_worlds(), POLICIES, st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_told_changes_nothing(world: Snapshot, policies: Policies, rng: Random) -> None:
    plan = decide(world, policies)
    parts: dict[str, Any] = {
        name: _mixed(getattr(world, name), rng) for name in ("gpus", "nodes", "replicas", "models", "pools")
    }
    assert decide(replace(world, **parts), policies) == plan
    state = State.of(world)
    for _ in range(2):
        assert decide_on(state, world.id, world.now_s, policies) == plan
        assert state.snapshot(world.id, world.now_s) == world


@settings(max_examples=200, deadline=None)
@given(wide_worlds(), POLICIES)
def test_whatever_becomes_of_a_plan_the_state_decides_as_its_snapshot_does(world: Snapshot, policies: Policies) -> None:
    """With everything that is kept between decisions: sorted lists, columns, scores of placements, timers."""
    state = State.of(world)
    plan = decide_on(state, "s", world.now_s, policies)
    for place, action in enumerate(plan.actions):
        carry_out(state, action, place)
        if isinstance(action, Stop):
            state.drop_replica(action.replica)
        for name, memory in plan.memories:
            state.set_memory(name, memory)
        now_s = world.now_s + place
        assert decide_on(state, "s", now_s, policies) == decide(state.snapshot("s", now_s), policies)


@settings(max_examples=200, deadline=None)
@given(wide_worlds(), POLICIES)
def test_moves_stay_within_their_budget(world: Snapshot, policies: Policies) -> None:
    there = {one.id: one for one in world.replicas if one.state is not DEAD}
    under_way = sum(one.replaces in there for one in there.values())
    moves = [act for act in decide(world, policies).actions if isinstance(act, Start) and act.replaces is not None]
    of_choice = [
        act for act in moves if act.replaces and not any(_cordoned(gpu, world) for gpu in there[act.replaces].gpus)
    ]
    assert not of_choice or under_way + len(of_choice) <= policies.defrag_budget.moves
    assert len({act.replaces for act in moves}) == len(moves)


def _cordoned(gpu: GpuId, world: Snapshot) -> bool:
    return any(one.id == gpu and one.cordoned for one in world.gpus)


@settings(max_examples=200, deadline=None)
@given(wide_worlds(), POLICIES)
def test_whoever_is_asked_for_gets_an_answer(world: Snapshot, policies: Policies) -> None:
    plan = decide(world, policies)
    answered = {action.model for action in plan.actions if isinstance(action, Start | Wake | Hold | Refuse)}
    for one in world.models:
        mine = [r for r in world.replicas if r.model == one.id and r.state in (READY, STARTING)]
        if (one.demand.held or one.demand.operator_wake or one.min_replicas) and not mine:
            assert one.id in answered

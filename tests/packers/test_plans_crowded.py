"""The rules that no plan may break, where memory is short and most plans evict."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from packers.decide import Policies
from packers.eviction import EVICTION
from packers.state import State
from packers.types import Action, Plan, Replica, ReplicaState, Sleep, Start, Stop, Wake
from tests.packers.crowded import crowded_world
from tests.packers.test_plans import _mixed
from tests.packers.wide import carry_out
from tests.packers.worlds import PLAIN, decide

SEEDS = st.integers(0, 1_000_000)
POLICIES = st.builds(
    Policies,
    placement=st.sampled_from(["best-fit", "ours"]),
    eviction=st.sampled_from(sorted(EVICTION)),
    patience_s=st.sampled_from((None, 0.0, 30.0)),
    prewarm=st.booleans(),
)


def evicted(plan: Plan) -> list[Action]:
    return [one for one in plan.actions if isinstance(one, Sleep | Stop) and one.evicted_for is not None]


def test_most_of_these_worlds_have_to_evict_under_every_policy() -> None:
    for name in sorted(EVICTION):
        policies = replace(PLAIN, eviction=name)
        plans = [decide(crowded_world(seed), policies) for seed in range(40)]
        assert sum(bool(evicted(plan)) for plan in plans) > 20, name


@settings(max_examples=200, deadline=None)
@given(SEEDS, POLICIES)
def test_every_prefix_of_a_plan_fits(seed: int, policies: Policies) -> None:
    world = crowded_world(seed)
    state = State.of(world)
    for place, action in enumerate(decide(world, policies).actions):
        carry_out(state, action, place)  # raises LedgerError when it does not fit
        state.snapshot("s", world.now_s)


@settings(max_examples=200, deadline=None)
@given(SEEDS, POLICIES)
def test_who_is_pinned_or_busy_stays_and_nobody_gets_two_actions(seed: int, policies: Policies) -> None:
    world = crowded_world(seed)
    replicas = {one.id: one for one in world.replicas}
    pinned = {one.id for one in world.models if one.pinned}
    plan = decide(world, policies)
    touched = [one.replica for one in plan.actions if isinstance(one, Sleep | Stop | Wake)]
    assert len(touched) == len(set(touched))
    for action in plan.actions:
        if isinstance(action, Sleep | Stop):
            one = replicas[action.replica]
            overdue = action.evicted_for is not None and policies.patience_s is not None
            assert not one.in_flight or overdue, "only for who has waited for too long, and finishing what it has"
            assert one.model not in pinned or _goes_by_itself(one, action)


@settings(max_examples=100, deadline=None)
@given(SEEDS, POLICIES, st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_listed_changes_nothing(seed: int, policies: Policies, rng: Random) -> None:
    world = crowded_world(seed)
    shuffled = replace(
        world,
        gpus=_mixed(world.gpus, rng),
        nodes=_mixed(world.nodes, rng),
        replicas=_mixed(world.replicas, rng),
        models=_mixed(world.models, rng),
    )
    assert decide(shuffled, policies) == decide(world, policies)


@settings(max_examples=100, deadline=None)
@given(SEEDS, POLICIES)
def test_nobody_is_started_or_woken_who_is_there(seed: int, policies: Policies) -> None:
    world = crowded_world(seed)
    there = {one.model for one in world.replicas if one.state is ReplicaState.READY}
    for action in decide(world, policies).actions:
        assert not isinstance(action, Start | Wake) or action.model not in there


def _goes_by_itself(one: Replica, action: Sleep | Stop) -> bool:
    """A sleeping replica that is in nobody's way but its own model's."""
    return one.state is ReplicaState.ASLEEP and action.evicted_for is None

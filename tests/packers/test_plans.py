"""Any plan from any snapshot, also from ones that no history leads to, keeps the rules."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from packers.ledger import Ledger, OverCapacity, leaving
from packers.types import (
    Action,
    Gpu,
    Hold,
    Model,
    Plan,
    Refuse,
    Replica,
    ReplicaId,
    ReplicaState,
    Sleep,
    Snapshot,
    Start,
    Stop,
    Wake,
)
from tests.packers.worlds import ASLEEP, DEAD, DRAINING, NOW_S, READY, STARTING, decide, gpus, model, nodes, replica

Thing = TypeVar("Thing")
NAMES = ("a", "b", "c", "d", "ghost")
STATES: list[tuple[ReplicaState, ReplicaState | None]] = [
    (STARTING, None),
    (READY, None),
    (READY, None),
    (READY, None),
    (ASLEEP, None),
    (ASLEEP, None),
    (ASLEEP, DEAD),
    (DRAINING, ASLEEP),
    (DRAINING, DEAD),
    (DEAD, None),
]


@st.composite
def some_model(draw: st.DrawFn, name: str) -> Model:
    return model(
        name,
        draw(st.integers(10, 220)),
        held=draw(st.integers(0, 5)),
        in_flight=draw(st.integers(0, 5)),
        waited_s=draw(st.integers(0, 3)),
        operator_wake=draw(st.integers(0, 9)) == 0,
        min_replicas=draw(st.sampled_from([0, 0, 1, 2])),
        max_replicas=draw(st.integers(0, 4)),
        target_in_flight=draw(st.integers(1, 4)),
        ttl_s=draw(st.sampled_from([1.0, 30.0, 600.0])),
        priority=draw(st.integers(0, 2)),
        pinned=draw(st.integers(0, 5)) == 0,
        can_sleep=draw(st.booleans()),
        retry_at_s=draw(st.sampled_from([0.0, 0.0, NOW_S + 1])),
    )


@st.composite
def some_replica(draw: st.DrawFn, place: int, there: tuple[Gpu, ...]) -> Replica:
    state, to = draw(st.sampled_from(STATES))
    mib = draw(st.integers(5, 90))
    return replica(
        f"{draw(st.sampled_from(NAMES))}-{place}",
        draw(st.sampled_from(there)).id,
        mib,
        state,
        busy=draw(st.sampled_from([0, 0, 1])) if state in (READY, DRAINING) else 0,
        idle_s=draw(st.integers(0, 900)),
        residue=draw(st.sampled_from([0, mib // 4, mib])),
        host=draw(st.integers(0, 60)),
        to=to,
        pinned=draw(st.integers(0, 7)) == 0,
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any models, and whichever of ten replicas the ledger has room for."""
    sizes = draw(st.lists(st.sampled_from([60, 100, 200]), min_size=1, max_size=4))
    there = gpus({f"{'no'[place % 2]}/{place}": mib for place, mib in enumerate(sizes)})
    homes = nodes(there, draw(st.sampled_from([0, 60, 150, 1000])))
    models = tuple(draw(some_model(name)) for name in NAMES[: draw(st.integers(0, 4))])
    ledger = Ledger(there, homes)
    replicas: list[Replica] = []
    for place in range(draw(st.integers(0, 10))):
        one = draw(some_replica(place, there))
        with suppress(OverCapacity):
            ledger.hold(one)
            replicas.append(one)
    return Snapshot("s", NOW_S, there, homes, tuple(replicas), models)


class Applied:
    """The snapshot's ledger with a plan's actions applied as they come; raises OverCapacity when one does not fit."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.ledger = Ledger.of(snapshot)
        self.replicas = {one.id: one for one in snapshot.replicas}

    def apply(self, action: Action, place: int) -> None:
        match action:
            case Start():
                name = ReplicaId(f"new-{place}")
                self.ledger.reserve(name, action.model, action.gpu, action.footprint.gpu_bytes)
            case Wake():
                self.ledger.hold(replace(self.replicas[action.replica], state=STARTING))
            case Sleep():
                self.ledger.hold(replace(self.replicas[action.replica], state=DRAINING, draining_to=ASLEEP))
            case Stop() | Hold() | Refuse():
                pass  # a stopped one holds its memory until it is gone


@settings(max_examples=400, deadline=None)
@given(snapshots())
def test_every_action_fits_at_the_moment_it_is_applied(snapshot: Snapshot) -> None:
    applied = Applied(snapshot)
    for place, action in enumerate(decide(snapshot).actions):
        applied.apply(action, place)


@settings(max_examples=400, deadline=None)
@given(snapshots())
def test_no_action_touches_whom_it_must_not(snapshot: Snapshot) -> None:
    plan = decide(snapshot)
    replicas = {one.id: one for one in snapshot.replicas}
    models = {one.id: one for one in snapshot.models}
    touched = [action.replica for action in plan.actions if isinstance(action, Wake | Sleep | Stop)]
    assert len(touched) == len(set(touched))
    for action in plan.actions:
        assert action.reason
        if isinstance(action, Wake | Sleep | Stop):
            one = replicas[action.replica]
            assert (one.model, one.gpu) == (action.model, action.gpu)
            assert not leaving(one)
        if isinstance(action, Wake):
            assert one.state is ASLEEP
        if isinstance(action, Sleep | Stop):
            assert one.state in (READY, ASLEEP)
            assert one.in_flight == 0
            assert not one.pinned
            assert not (one.model in models and models[one.model].pinned)
        if isinstance(action, Sleep):
            assert one.state is READY
            assert models[one.model].can_sleep
        if isinstance(action, Start | Wake):
            assert models[action.model].retry_at_s <= snapshot.now_s


@settings(max_examples=400, deadline=None)
@given(snapshots())
def test_every_model_in_need_gets_an_answer_and_one_hold_at_most(snapshot: Snapshot) -> None:
    plan = decide(snapshot)
    answered = {action.model for action in plan.actions if isinstance(action, Start | Wake | Hold | Refuse)}
    held = [action.model for action in plan.actions if isinstance(action, Hold)]
    assert len(held) == len(set(held))
    for one in snapshot.models:
        mine = [r for r in snapshot.replicas if r.model == one.id and r.state in (READY, STARTING)]
        if (one.demand.held or one.demand.operator_wake or one.min_replicas) and not mine:
            assert one.id in answered
    for refusal in (action for action in plan.actions if isinstance(action, Refuse)):
        assert refusal.no_fit.needs_bytes > max(gpu.memory_bytes for gpu in snapshot.gpus)
        assert not refusal.no_fit.ever


@settings(max_examples=200, deadline=None)
@given(snapshots(), st.randoms(use_true_random=False))
def test_the_same_world_gives_the_same_plan_however_it_is_listed(snapshot: Snapshot, rng: Random) -> None:
    plan = decide(snapshot)
    assert decide(snapshot) == plan
    assert decide(_shuffled(snapshot, rng)) == plan


def _shuffled(snapshot: Snapshot, rng: Random) -> Snapshot:
    return Snapshot(
        snapshot.id,
        snapshot.now_s,
        _mixed(snapshot.gpus, rng),
        _mixed(snapshot.nodes, rng),
        _mixed(snapshot.replicas, rng),
        _mixed(snapshot.models, rng),
    )


def _mixed(things: tuple[Thing, ...], rng: Random) -> tuple[Thing, ...]:
    return tuple(rng.sample(things, len(things)))


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_eviction_is_for_somebody_who_then_waits_for_it(snapshot: Snapshot) -> None:
    plan = decide(snapshot)
    for action in plan.actions:
        if isinstance(action, Sleep | Stop) and action.evicted_for is not None:
            assert action.evicted_for in _waiting(plan)
            assert action.model in action.reason
    for action in plan.actions:
        if isinstance(action, Hold) and action.no_fit is not None and action.no_fit.gpu is not None:
            assert action.no_fit.short_bytes > 0


def _waiting(plan: Plan) -> set[str]:
    return {action.model for action in plan.actions if isinstance(action, Hold)}

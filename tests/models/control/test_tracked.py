"""The state machine of a replica."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.control.tracked import TRANSITIONS, IllegalTransition, Tracked
from packers.types import Footprint, GpuId, ModelId, NodeId, ReplicaId, ReplicaState


def _tracked() -> Tracked:
    return Tracked(
        id=ReplicaId("a-1"),
        model=ModelId("a"),
        node=NodeId("n"),
        gpu=GpuId("n/gpu-0"),
        footprint=Footprint(1, 2, 3),
        endpoint="unix:/x",
        control="/y",
        card_hash="h",
    )


def test_the_usual_life() -> None:
    tracked = _tracked()
    for state in ("ready", "draining", "asleep", "starting", "ready", "draining", "dead"):
        tracked.move(ReplicaState(state), f"to {state}", 5.0)
    assert (tracked.state, tracked.reason, tracked.state_since_s) == (ReplicaState.DEAD, "to dead", 5.0)


@given(st.lists(st.sampled_from(list(ReplicaState)), max_size=12))
def test_only_allowed_moves_are_made_and_the_dead_stay_dead(wanted: list[ReplicaState]) -> None:
    tracked = _tracked()
    for state in wanted:
        before = tracked.state
        allowed = state is ReplicaState.DEAD or state in TRANSITIONS[before]
        if allowed:
            tracked.move(state, "asked", 1.0)
            assert tracked.state is state
        else:
            with pytest.raises(IllegalTransition):
                tracked.move(state, "asked", 1.0)
            assert tracked.state is before


def test_leaving_a_drain_forgets_where_it_was_going() -> None:
    tracked = _tracked()
    tracked.move(ReplicaState.READY, "", 1.0)
    tracked.move(ReplicaState.DRAINING, "", 2.0)
    tracked.draining_to, tracked.ending = ReplicaState.ASLEEP, True
    tracked.move(ReplicaState.ASLEEP, "", 3.0)
    shown = tracked.as_replica(pinned=False, priority=0)
    assert (shown.state, shown.draining_to, tracked.ending) == (ReplicaState.ASLEEP, None, False)


def test_one_that_ends_out_of_its_sleep_is_shown_as_asleep_until_it_is_gone() -> None:
    tracked = _tracked()
    for state in ("ready", "draining", "asleep", "draining"):
        tracked.move(ReplicaState(state), "", 1.0)
    tracked.draining_to = ReplicaState.DEAD
    shown = tracked.as_replica(pinned=False, priority=0)
    assert (shown.state, shown.draining_to) == (ReplicaState.ASLEEP, ReplicaState.DEAD)

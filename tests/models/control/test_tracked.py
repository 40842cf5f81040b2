"""A replica as the loop follows it: what happens to it, and what it is shown as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.control.lifecycle import AFTER, Event, IllegalTransition
from models.control.tracked import Tracked
from packers.types import Footprint, GpuId, ModelId, NodeId, ReplicaId, ReplicaState

USUAL = (Event.SERVES, Event.LEAVES, Event.FELL_ASLEEP, Event.WAKES, Event.SERVES, Event.LEAVES, Event.GONE)


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
    for event in USUAL:
        tracked.happens(event, f"it {event}", 5.0)
    assert (tracked.state, tracked.reason, tracked.state_since_s) == (ReplicaState.DEAD, "it gone", 5.0)


@given(st.lists(st.sampled_from(list(Event)), max_size=12))
def test_only_what_the_table_has_happens_and_the_dead_stay_dead(events: list[Event]) -> None:
    tracked = _tracked()
    for event in events:
        before = tracked.state, tracked.reason
        if event in AFTER[tracked.state]:
            tracked.happens(event, "asked", 1.0)
            assert tracked.state is AFTER[before[0]][event]
        else:
            with pytest.raises(IllegalTransition):
                tracked.happens(event, "never", 1.0)
            assert (tracked.state, tracked.reason) == before


def test_leaving_a_drain_forgets_where_it_was_going() -> None:
    tracked = _tracked()
    tracked.happens(Event.SERVES, "", 1.0)
    tracked.happens(Event.LEAVES, "", 2.0)
    tracked.draining_to, tracked.ending = ReplicaState.ASLEEP, True
    tracked.happens(Event.FELL_ASLEEP, "", 3.0)
    shown = tracked.as_replica(pinned=False, priority=0)
    assert (shown.state, shown.draining_to, tracked.ending) == (ReplicaState.ASLEEP, None, False)


def test_one_that_ends_out_of_its_sleep_is_shown_as_asleep_until_it_is_gone() -> None:
    tracked = _tracked()
    for event in (Event.SERVES, Event.LEAVES, Event.FELL_ASLEEP, Event.LEAVES):
        tracked.happens(event, "", 1.0)
    tracked.draining_to = ReplicaState.DEAD
    shown = tracked.as_replica(pinned=False, priority=0)
    assert (shown.state, shown.draining_to) == (ReplicaState.ASLEEP, ReplicaState.DEAD)


def test_one_that_wakes_is_not_one_that_was_found_any_more() -> None:
    tracked = _tracked()
    tracked.adopted = True
    for event in (Event.SERVES, Event.LEAVES, Event.FELL_ASLEEP, Event.WAKES):
        tracked.happens(event, "", 1.0)
    assert (tracked.woke, tracked.adopted, tracked.state) == (True, False, ReplicaState.STARTING)

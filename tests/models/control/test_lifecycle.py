"""The table of what may happen to a replica."""

from __future__ import annotations

import itertools

import pytest

from models.control import lifecycle
from models.control.lifecycle import AFTER, Event, IllegalTransition, after
from packers.types import ReplicaState


def test_the_table_in_the_words_is_the_table() -> None:
    lines = [line.split("|")[1:-1] for line in (lifecycle.__doc__ or "").splitlines() if line.startswith("|")]
    events = [Event[name.strip()] for name in lines[0][1:]]
    said = {
        ReplicaState(row[0].strip()): {
            event: ReplicaState(cell.strip()) for event, cell in zip(events, row[1:], strict=True) if cell.strip()
        }
        for row in lines[2:]
    }
    assert said == AFTER


def test_every_state_and_every_event_is_in_it() -> None:
    assert AFTER.keys() == set(ReplicaState)
    assert {event for row in AFTER.values() for event in row} == set(Event)


def test_whoever_lives_may_die_and_only_the_dead_are_dead_for_ever() -> None:
    for state in ReplicaState:
        assert (Event.GONE in AFTER[state]) == (state is not ReplicaState.DEAD)
    reached = {state: {state} for state in ReplicaState}
    for _ in ReplicaState:
        for state, row in AFTER.items():
            reached[state] |= set(itertools.chain.from_iterable(reached[there] for there in row.values()))
    for state in ReplicaState:
        assert reached[state] == ({state} if state is ReplicaState.DEAD else set(ReplicaState))


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in ReplicaState for e in Event if e not in AFTER[s]])
def test_what_is_not_in_it_does_not_happen(state: ReplicaState, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=f"{state.value}.*{event.value}"):
        after(state, event)

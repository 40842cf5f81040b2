"""The states of a replica and what leads from one to another, as a table: state x event -> state.

| | SERVES | LEAVES | FELL_ASLEEP | WAKES | PUT_DOWN | GONE |
| --- | --- | --- | --- | --- | --- | --- |
| starting | ready | | | | draining | dead |
| ready | | draining | | | draining | dead |
| draining | | | asleep | | draining | dead |
| asleep | | draining | | starting | draining | dead |
| dead | | | | | | |

An empty place is a bug of whoever lets the event happen: nothing is changed, and IllegalTransition is raised.
"""

from __future__ import annotations

from enum import StrEnum

from packers.types import ReplicaState


class Event(StrEnum):
    SERVES = "serves"  # its engine is ready: started, woken or found alive
    LEAVES = "leaves"  # it is to finish what it has; gateways send it nothing new
    FELL_ASLEEP = "fell asleep"
    WAKES = "wakes"
    PUT_DOWN = "put down"  # the fleet was told to end it, whatever it is at
    GONE = "gone"  # its process has ended, asked to or not


AFTER: dict[ReplicaState, dict[Event, ReplicaState]] = {
    ReplicaState.STARTING: {
        Event.SERVES: ReplicaState.READY,
        Event.PUT_DOWN: ReplicaState.DRAINING,
        Event.GONE: ReplicaState.DEAD,
    },
    ReplicaState.READY: {
        Event.LEAVES: ReplicaState.DRAINING,
        Event.PUT_DOWN: ReplicaState.DRAINING,
        Event.GONE: ReplicaState.DEAD,
    },
    ReplicaState.DRAINING: {
        Event.FELL_ASLEEP: ReplicaState.ASLEEP,
        Event.PUT_DOWN: ReplicaState.DRAINING,
        Event.GONE: ReplicaState.DEAD,
    },
    ReplicaState.ASLEEP: {
        Event.LEAVES: ReplicaState.DRAINING,
        Event.WAKES: ReplicaState.STARTING,
        Event.PUT_DOWN: ReplicaState.DRAINING,
        Event.GONE: ReplicaState.DEAD,
    },
    ReplicaState.DEAD: {},
}


class IllegalTransition(Exception):
    """A bug in the loop: something happened to a replica that cannot happen in its state."""


def after(state: ReplicaState, event: Event) -> ReplicaState:
    """Raises IllegalTransition."""
    try:
        return AFTER[state][event]
    except KeyError:
        raise IllegalTransition(f"what is {state.value} cannot be what {event.value}") from None

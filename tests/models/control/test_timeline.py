"""Clocks that were set between two controllers."""

from __future__ import annotations

import msgspec
import pytest

from models.clock import SinceBoot, since_boot
from models.control.history import Remembered
from models.control.timeline import jumped_s, moved, past_moved
from models.store.records import FleetRecord, ReplicaRecord
from packers.usage import Usage

REPLICA = ReplicaRecord(
    replica_id="a-1",
    model_id="a",
    node="n",
    gpu="n/gpu-0",
    state="ready",
    reason="",
    state_since_unix_s=900.0,
    endpoint="unix:/x",
    control="/y",
    pid=1,
    footprint={},
    last_used_unix_s=950.0,
)
BEFORE = FleetRecord(
    seq=1, updated_unix_s=1000.0, controller_pid=1, replicas=(REPLICA,), boot="today's", since_boot_s=50.0
)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 2.0])
def test_on_the_same_machine_a_jump_is_known_from_time_itself(jump_s: float) -> None:
    assert jumped_s(BEFORE, 1005.0 + jump_s, SinceBoot("today's", 55.0)) == pytest.approx(jump_s)


def test_a_controller_that_was_away_for_a_night_has_not_jumped() -> None:
    assert jumped_s(BEFORE, 30_000.0, SinceBoot("today's", 29_050.2)) == 0.0


def test_of_another_boot_nothing_is_known_but_that_the_past_is_past() -> None:
    other = SinceBoot("tomorrow's", 3.0)
    assert jumped_s(BEFORE, 900_000.0, other) == 0.0
    assert jumped_s(BEFORE, 400.0, other) == -600.0
    unsaid = msgspec.structs.replace(BEFORE, boot="")
    assert jumped_s(unsaid, 400.0, SinceBoot("", 3.0)) == -600.0


def test_everything_is_moved_by_as_much() -> None:
    (replica,) = moved(BEFORE, -3600.0).replicas
    assert (replica.state_since_unix_s, replica.last_used_unix_s) == (-2700.0, -2650.0)
    assert moved(BEFORE, 0.0) is BEFORE
    past = Remembered(usage={"a": Usage(arrivals=2, last_s=950.0, centres_s=(940.0, 930.0))})
    usage = past_moved(past, 60.0).usage["a"]
    assert (usage.last_s, usage.centres_s, usage.arrivals) == (1010.0, (1000.0, 990.0), 2)


def test_this_machine_says_which_boot_it_is_and_how_long_ago() -> None:
    one, other = since_boot(), since_boot()
    assert one.boot == other.boot != ""
    assert 0 < one.since_s <= other.since_s

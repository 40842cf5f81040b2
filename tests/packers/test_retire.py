"""How a replica leaves its GPU: asleep where that pays, else for good."""

from __future__ import annotations

import pytest

from packers.retire import Way, WayOut, apply, way_out
from packers.trial import Trial
from packers.types import GpuId, Model, Replica
from tests.packers.worlds import ASLEEP, DEAD, DRAINING, MIB, model, replica, world

LEAVER = replica("a", "n/0", 60, host=60)


def out(*others: Replica, host: int, leaver: Replica = LEAVER, models: tuple[Model, ...] = ()) -> WayOut:
    known = models or (model("a"), model("b", 30), model("c", 30))
    return way_out(leaver, Trial.of(world({"n/0": 100, "n/1": 100, "o/0": 100}, known, [leaver, *others], host=host)))


def test_with_host_ram_it_sleeps() -> None:
    assert out(host=60) == WayOut(Way.SLEEP)


def test_without_host_ram_it_stops_and_says_so() -> None:
    answer = out(host=59)
    assert answer.way is Way.STOP
    assert answer.why == "it needs 60 MiB of host RAM to sleep, n has 59 MiB free"


@pytest.mark.parametrize(
    ("leaver", "of", "why"),
    [
        (LEAVER, model("a", can_sleep=False), "its model cannot sleep"),
        (replica("a", "n/0", 60, residue=60), model("a"), "sleeping would free no GPU memory"),
        (replica("a", "n/0", 60, ASLEEP), model("a"), "it sleeps already"),
        (LEAVER, model("other"), "it is not in the catalog any more"),
    ],
)
def test_who_cannot_sleep_stops(leaver: Replica, of: Model, why: str) -> None:
    assert out(host=1000, leaver=leaver, models=(of,)) == WayOut(Way.STOP, why)


def test_it_stops_when_its_residue_would_take_the_room_that_is_made() -> None:
    leaver = replica("a", "n/0", 60, residue=5)
    trial = Trial.of(world({"n/0": 100}, [model("a")], [leaver]))
    assert way_out(leaver, trial, slack_bytes=5 * MIB) == WayOut(Way.SLEEP)
    stops = way_out(leaver, trial, slack_bytes=5 * MIB - 1)
    assert stops == WayOut(Way.STOP, "asleep it would still hold 5 MiB there")


def test_the_longest_unused_sleepers_of_the_node_make_room_and_no_more_than_needed() -> None:
    old = replica("b-1", "n/1", 30, ASLEEP, idle_s=500, host=30)
    older = replica("b-2", "n/1", 30, ASLEEP, idle_s=900, host=30)
    assert out(old, older, host=90) == WayOut(Way.SLEEP_LATER, stops_first=(older,))
    assert out(old, older, host=70) == WayOut(Way.SLEEP_LATER, stops_first=(older, old))


def test_a_small_sleeper_is_spared_when_a_larger_one_suffices() -> None:
    small = replica("b-1", "n/1", 30, ASLEEP, idle_s=900, host=10)
    large = replica("b-2", "n/1", 60, ASLEEP, idle_s=500, host=60)
    assert out(small, large, host=70).stops_first == (large,)


@pytest.mark.parametrize(
    ("sleeper", "of"),
    [
        (replica("b", "n/1", 30, ASLEEP, idle_s=5), model("b", 30)),  # used more recently
        (replica("b", "n/1", 30, ASLEEP, idle_s=900), model("b", 30, priority=1)),
        (replica("b", "n/1", 30, ASLEEP, idle_s=900), model("b", 30, pinned=True)),
        (replica("b", "n/1", 30, ASLEEP, idle_s=900), model("b", 30, held=1)),  # will be woken
        (replica("b", "o/0", 30, ASLEEP, idle_s=900), model("b", 30)),  # on another node
    ],
)
def test_sleepers_worth_more_or_elsewhere_are_left_alone(sleeper: Replica, of: Model) -> None:
    answer = out(sleeper, host=60 if sleeper.gpu.startswith("n") else 59, models=(model("a"), of))
    assert answer.way is Way.STOP


def test_host_ram_that_is_being_given_back_is_waited_for() -> None:
    ending = replica("b", "n/1", 30, ASLEEP, host=30, to=DEAD)
    assert out(ending, host=60) == WayOut(Way.SLEEP_LATER)


def test_host_ram_promised_to_one_that_falls_asleep_is_not_free() -> None:
    falling = replica("b", "n/1", 30, DRAINING, host=30, to=ASLEEP)
    assert out(falling, host=89).way is Way.STOP
    assert out(falling, host=90).way is Way.SLEEP


def test_applying_enters_it_into_both_ledgers() -> None:
    old = replica("b", "n/1", 30, ASLEEP, idle_s=900, host=30)
    trial = Trial.of(world({"n/0": 100, "n/1": 100}, [model("a"), model("b", 30)], [LEAVER, old], host=60))
    answer = way_out(LEAVER, trial)
    apply(LEAVER, answer, trial)
    assert answer.way is Way.SLEEP_LATER
    assert trial.now.free_gpu(GpuId("n/0")) == 40 * MIB, "nothing has left yet"
    assert trial.soon.free_gpu(GpuId("n/0")) == 100 * MIB
    assert trial.free_host_soon(LEAVER) == 0
    assert set(trial.going) == {"a-1", "b-1"}

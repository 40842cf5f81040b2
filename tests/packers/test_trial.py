"""The scratch copy: what is free now, what will be, and what is promised."""

from __future__ import annotations

from packers.trial import Trial
from packers.types import GpuId
from tests.packers.worlds import ASLEEP, DEAD, DRAINING, MIB, footprint, model, replica, world

G0 = GpuId("n/0")


def test_what_leaves_is_free_soon_but_not_now() -> None:
    trial = Trial.of(world({"n/0": 100}, [model("a")], [replica("a", "n/0", 60, DRAINING, to=ASLEEP, residue=5)]))
    assert trial.now.free_gpu(G0) == 40 * MIB
    assert trial.soon.free_gpu(G0) == 95 * MIB
    assert trial.free_gpu(G0) == 40 * MIB


def test_what_is_promised_is_not_free() -> None:
    trial = Trial.of(world({"n/0": 100}, [model("a", 60), model("b", 30)], []))
    trial.promise(model("a", 60), (G0,), footprint(60))
    trial.promise(model("b", 30), (G0,), footprint(30))
    assert trial.free_gpu(G0) == 10 * MIB
    assert trial.now.free_gpu(G0) == 100 * MIB
    assert trial.promised[G0] == ["a", "b"]


def test_two_starts_and_two_promises_of_one_model_all_count() -> None:
    of = model("a", 20)
    trial = Trial.of(world({"n/0": 100}, [of], []))
    for act in (trial.start, trial.start, trial.promise, trial.promise):
        act(of, (G0,), of.footprint)
    assert (trial.now.free_gpu(G0), trial.soon.free_gpu(G0)) == (60 * MIB, 20 * MIB)


def test_a_woken_replica_keeps_its_host_ram_until_the_snapshot_says_otherwise() -> None:
    sleeper = replica("a", "n/0", 60, ASLEEP, residue=5, host=60)
    trial = Trial.of(world({"n/0": 100}, [model("a")], [sleeper], host=60))
    trial.wake(sleeper, sleeper.gpus)
    assert trial.free_gpu(G0) == 40 * MIB
    assert (trial.free_host(sleeper), trial.free_host_soon(sleeper)) == (0, 60 * MIB)
    assert trial.sleepers(sleeper.model) == []


def test_sleepers_are_those_that_can_be_woken() -> None:
    asleep = replica("a-1", "n/0", 20, ASLEEP)
    ending = replica("a-2", "n/0", 20, ASLEEP, to=DEAD)
    falling = replica("a-3", "n/0", 20, DRAINING, to=ASLEEP)
    busy = replica("a-4", "n/0", 20, DRAINING, to=ASLEEP, busy=1)
    trial = Trial.of(world({"n/0": 100}, [model("a")], [asleep, ending, falling, busy]))
    assert trial.sleepers(asleep.model) == [asleep]
    assert trial.sleepers(asleep.model, falling_asleep=True) == [asleep, falling]


def test_the_catalog_says_who_is_pinned_and_how_important() -> None:
    resident, ghost = replica("a", "n/0", 20), replica("ghost", "n/0", 20)
    trial = Trial.of(world({"n/0": 100}, [model("a", priority=7, pinned=True)], [resident, ghost]))
    assert (trial.priority(resident), trial.pinned(resident)) == (7, True)
    assert (trial.priority(ghost), trial.pinned(ghost)) == (0, False)
    assert trial.pinned_bytes(G0) == trial.idle_bytes(G0) == 20 * MIB

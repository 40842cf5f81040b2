"""A large cluster is searched by columns of numbers: it finds what looking at every GPU would find."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.columns import Ints
from packers.decide import Policies
from packers.limits import NO_LIMITS
from packers.shelves import obstacle, shelves
from packers.state import State
from packers.trial import Trial
from packers.types import Snapshot
from packers.verdicts import Need
from tests.packers.test_plans import Applied, snapshots
from tests.packers.worlds import ASLEEP, MIB, NOW_S, decide, model, replica, short, world


def need(mib: int, name: str = "need") -> Need:
    return Need(model(name, mib, held=1), 1, "1 request held")


def looked_at(world: Snapshot, of: Need, look_at: int = 2) -> list[str]:
    return [shelf.gpu.id for shelf in shelves(of, NO_LIMITS, Trial(State.of(world), NOW_S, look_at))]


def test_the_gpus_where_the_longest_unused_would_go_are_looked_at() -> None:
    ages = {"n/0": 10, "n/1": 300, "n/2": 20, "n/3": 200, "n/4": 30}
    there = world(dict.fromkeys(ages, 100), [], [replica(f"m-{g[-1]}", g, idle_s=s) for g, s in ages.items()])
    assert looked_at(there, need(60)) == ["n/1", "n/3"]
    assert looked_at(there, need(60), look_at=9) == sorted(ages), "a small cluster is looked at as a whole"


def test_lower_priority_comes_before_longer_unused() -> None:
    models = [model("vip", priority=1), model("plain")]
    residents = [replica("vip-1", "n/0", idle_s=900), replica("plain-1", "n/1"), replica("plain-2", "n/2")]
    assert looked_at(world(dict.fromkeys(("n/0", "n/1", "n/2"), 100), models, residents), need(60)) == ["n/1", "n/2"]


def test_how_many_have_to_go_counts_not_the_oldest_alone() -> None:
    residents = [replica(f"m-{gpu}{place}", f"n/{gpu}", 30, idle_s=s) for gpu, place, s in AGES]
    assert looked_at(world({"n/0": 90, "n/1": 90, "n/2": 90}, [], residents), need(60), 1) == ["n/2"]


AGES = [(0, 1, 900), (0, 2, 10), (0, 3, 10), (1, 1, 500), (1, 2, 20), (1, 3, 10), (2, 1, 50), (2, 2, 40), (2, 3, 1)]


def test_when_nobody_may_go_there_the_search_goes_on() -> None:
    residents = [replica("wanted", "n/0", idle_s=900), replica("idle", "n/1"), replica("wanted-2", "n/2", idle_s=800)]
    there = world(dict.fromkeys(("n/0", "n/1", "n/2"), 100), [model("wanted", held=99, max_replicas=9)], residents)
    assert looked_at(there, need(60), 1) == ["n/1"]
    assert looked_at(there, need(101), 1) == []


def test_a_gpu_where_a_sleeper_would_wake_comes_first_among_equals() -> None:
    residents = [replica("x-1", "n/0", idle_s=900), replica("x-2", "n/1"), replica("need", "n/1", 60, ASLEEP)]
    there = world({"n/0": 60, "n/1": 60}, [model("x")], residents)
    assert looked_at(there, need(60), 1) == ["n/1"]


def test_the_obstacle_is_the_same_however_it_is_found() -> None:
    residents = [replica("p", "n/0", 50, pinned=True), replica("b", "n/1", 80, busy=1), replica("c", "n/2", 70, busy=1)]
    there = world(dict.fromkeys(("n/0", "n/1", "n/2"), 100), [], residents)
    for look_at in (1, 9):
        closest = obstacle(need(60), NO_LIMITS, Trial(State.of(there), NOW_S, look_at))
        assert closest is not None
        assert closest.gpu.id == "n/2"
        assert obstacle(need(500), NO_LIMITS, Trial(State.of(there), NOW_S, look_at)) is None


def test_columns_follow_what_happens() -> None:
    there = world(dict.fromkeys(("n/0", "n/1", "n/2"), 100), [model("need", held=1)], [])
    state = State.of(there)
    trial = Trial(state, NOW_S, 1)
    assert mib(trial.columns.free()) == [100, 100, 100]
    trial.start(need(60).model, (trial.gpus[1].id,), need(60).model.footprint)
    trial.promise(need(30).model, (trial.gpus[2].id,), need(30).model.footprint)
    assert (mib(trial.columns.now), mib(trial.columns.soon)) == ([100, 40, 100], [100, 40, 70])
    trial.undo()
    state.put_replica(replica("x", "n/0", 10))
    state.drop_gpu(trial.gpus[1].id)
    columns = Trial(state, NOW_S, 1).columns
    assert (mib(columns.free()), mib(columns.idle)) == ([90, 100], [10, 0])


def mib(column: Ints) -> list[int]:
    return [int(size_bytes) // MIB for size_bytes in column]


@settings(max_examples=300, deadline=None)
@given(snapshots(), st.integers(1, 3), st.sampled_from(["best-fit", "first-fit"]))
def test_it_starts_wakes_and_evicts_for_the_same_models_as_looking_at_all(
    there: Snapshot, look_at: int, placement: str
) -> None:
    """With one model in need; with several, one eviction more or less may spare another."""
    asked = [one for one in there.models if one.demand.present][:1]
    one_asks = replace(there, models=tuple(replace(m, min_replicas=0) for m in there.models if m in asked))
    few = decide(one_asks, Policies(placement=placement, look_at=look_at))
    every = decide(one_asks, Policies(placement=placement, look_at=99))
    shown = [[text for text in short(plan) if " for " not in text] for plan in (few, every)]
    assert shown[0] == shown[1], "but for the victims"
    applied = Applied(one_asks)
    for place, action in enumerate(few.actions):
        applied.apply(action, place)


def test_at_least_one_gpu_has_to_be_looked_at() -> None:
    with pytest.raises(ValueError, match=r"policies\.look_at"):
        Policies(look_at=0)

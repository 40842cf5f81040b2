"""When nobody waits: moves that pay, models brought back early, KV caches that grow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packers.decide import Policies
from packers.defrag.moves import Budget
from packers.residency.prewarm import AT_ONCE, EVERY_S
from packers.state import State
from packers.types import Demand, Model, Replica, Snapshot, Start, StartTimes, Wake
from packers.usage import UsageTracker
from tests.packers.worlds import (
    ASLEEP,
    DRAINING,
    MIB,
    NOW_S,
    STARTING,
    decide,
    model,
    reasons,
    replica,
    short,
    world,
)

EARLY = Policies(eviction="ours", prewarm=True)
DUE = Policies(eviction="hybrid", prewarm=True)


def used(of: Model, every_s: float, last_s: float, times: int = 40) -> Model:
    """Asked for at regular times, most recently at ``last_s``."""
    tracker = UsageTracker(last_s - every_s * times)
    for number in range(times):
        tracker.arrive(last_s - every_s * (times - 1 - number))
    return replace(of, usage=tracker.usage(NOW_S), startup=StartTimes(40.0, 2.0))


def long_there(of: Replica, ready_s: float = 4000.0) -> Replica:
    return replace(of, state_since_s=NOW_S - ready_s)


# Brought back early


def expected_back() -> Snapshot:
    models = [used(model("hot"), 5.0, NOW_S - 6.0), used(model("cold", ttl_s=9e9), 90000.0, NOW_S - 9000.0)]
    residents = [
        long_there(replica("hot", "n/0", state=ASLEEP, idle_s=6)),
        long_there(replica("cold", "n/1", idle_s=9000)),
    ]
    return world({"n/0": 100, "n/1": 100}, models, residents)


def test_what_will_be_asked_for_soon_is_brought_back_into_free_room() -> None:
    there = expected_back()
    assert short(decide(there, Policies(eviction="ours"))) == []
    plan = decide(there, EARLY)
    assert short(plan) == ["wake hot-1"]
    assert plan.actions[0].reason.startswith("hot is brought back before anybody asks for it: ")


def with_two_busy(*others: Model) -> Snapshot:
    """And a third and a fourth GPU, neither of which has room for another model."""
    there = expected_back()
    busy = [replica(name, gpu, 100, busy=1) for name, gpu in (("x", "n/2"), ("y", "n/3"))]
    models = [*there.models, *(model(one.model, 100, in_flight=1) for one in busy), *others]
    return world({"n/0": 60, "n/1": 60, "n/2": 100, "n/3": 100}, models, [*there.replicas, *busy])


def test_nothing_is_brought_back_while_callers_wait_for_memory() -> None:
    assert short(decide(with_two_busy(), EARLY)) == ["wake hot-1"]
    assert short(decide(with_two_busy(model("late", 100, held=1)), EARLY)) == ["hold late"]
    assert short(decide(with_two_busy(model("off", 10, max_replicas=0, held=1)), EARLY)) == ["hold off", "wake hot-1"]


def test_what_cannot_be_placed_or_has_to_wait_for_its_next_start_keeps_nobody_from_coming_back() -> None:
    there = expected_back()
    large = replace(there, models=(*there.models, model("large", 300, held=1)))
    assert short(decide(large, EARLY)) == ["refuse large", "wake hot-1"]
    again = model("failed", 90, held=1, retry_at_s=NOW_S + 5.0)  # the third GPU is kept for it
    failed = world({"n/0": 100, "n/1": 100, "n/2": 200}, (*there.models, again), there.replicas)
    assert short(decide(failed, EARLY)) == ["hold failed", "wake hot-1"]


def loading(name: str, gpu: str, since_s: float) -> Replica:
    return replace(replica(name, gpu, 20, state=STARTING), state_since_s=NOW_S - since_s)


def test_few_come_back_at_a_time_and_one_after_the_other() -> None:
    there = expected_back()
    models = (*there.models, model("p", 20), model("q", 20))

    def plan(*more: Replica, of: tuple[Model, ...] = models) -> list[str]:
        return short(decide(replace(there, models=of, replicas=(*there.replicas, *more)), EARLY))

    assert plan(loading("p", "n/0", EVERY_S)) == ["wake hot-1"]
    assert plan(loading("p", "n/0", EVERY_S - 0.1)) == []
    assert plan(loading("p", "n/0", EVERY_S), loading("q", "n/0", EVERY_S)) == []
    assert AT_ONCE == 2
    called = tuple(replace(one, demand=Demand(held=1)) if one.id in ("p", "q") else one for one in models)
    assert plan(loading("p", "n/0", 0.1), loading("q", "n/0", 0.1), of=called) == ["wake hot-1"], "those are waited for"


def test_where_memory_changes_hands_at_once_nothing_is_brought_back_and_time_is_looked_at_again() -> None:
    there = expected_back()
    young = replace(there.replicas[1], state_since_s=NOW_S - 0.5)
    changed = replace(there, replicas=(there.replicas[0], young))
    assert short(decide(changed, EARLY)) == []
    assert State.of(changed).next_time_s(NOW_S, prewarm=True) == NOW_S - 0.5 + EVERY_S
    assert State.of(changed).next_time_s(NOW_S) > NOW_S + EVERY_S  # type: ignore[operator]


def test_while_room_is_being_made_for_it_nobody_else_goes() -> None:
    there = expected_back()
    hot, cold = there.replicas
    full = replace(cold, gpu=hot.gpu)
    leaves = replace(full, state=DRAINING, draining_to=ASLEEP, state_since_s=NOW_S - 10.0)
    also = long_there(replica("also", "n/1", 100, idle_s=9000))
    models = (*there.models, used(model("also", 100, ttl_s=9e9), 90000.0, NOW_S - 9000.0))
    making = replace(there, models=models, replicas=(hot, leaves, also))
    assert short(decide(making, EARLY)) == []
    gone = replace(leaves, state=ASLEEP, draining_to=None)
    assert short(decide(replace(making, replicas=(hot, gone, also)), EARLY)) == ["wake hot-1"]


def test_it_wakes_where_the_least_stays_free() -> None:
    there = expected_back()
    anywhere = tuple(replace(one, wakes_anywhere=True) for one in there.models)
    plan = decide(world({"n/0": 100, "n/1": 200, "n/2": 70}, anywhere, there.replicas), EARLY)
    assert [(action.replica, action.gpu) for action in plan.actions if isinstance(action, Wake)] == [("hot-1", "n/2")]


def test_what_makes_room_for_it_does_not_end_it_for_room_in_host_ram() -> None:
    """Host RAM is full: of the two that could give way there, one is being brought back."""
    there = expected_back()
    hot, cold = there.replicas
    idler = long_there(replica("idler", "n/1", 60, state=ASLEEP, idle_s=9500))
    models = (*there.models, used(model("idler", 60, ttl_s=9e9), 90000.0, NOW_S - 9500.0))
    full = world({"n/0": 60, "n/1": 60}, models, [hot, replace(cold, gpu=hot.gpu), idler], host=120)
    assert "stop hot-1" not in " ".join(short(decide(full, EARLY)))
    assert short(decide(full, EARLY)) == ["stop idler-1 for hot"]


def test_room_is_made_for_it_only_by_what_is_worth_clearly_less() -> None:
    there = expected_back()
    full = replace(there.replicas[1], gpu=there.gpus[0].id)
    one_gpu = replace(there, gpus=there.gpus[:1], replicas=(there.replicas[0], full))
    plan = decide(one_gpu, EARLY)
    assert short(plan) == ["sleep cold-1 for hot"]
    alike = replace(one_gpu, models=tuple(used(model(name, ttl_s=9e9), 5.0, NOW_S - 6.0) for name in ("hot", "cold")))
    assert short(decide(alike, EARLY)) == []


def test_a_policy_that_knows_the_hour_brings_back_at_the_hour() -> None:
    models = [used(model("hourly", ttl_s=9e9), 3600.0, NOW_S - 3500.0)]
    asleep = long_there(replica("hourly", "n/0", state=ASLEEP, idle_s=3500.0), 3000.0)
    there = world({"n/0": 100}, models, [asleep])
    assert short(decide(there, DUE)) == ["wake hourly-1"]
    early = world({"n/0": 100}, [used(model("hourly", ttl_s=9e9), 3600.0, NOW_S - 600.0)], [asleep])
    early = replace(early, replicas=(replace(asleep, last_used_s=NOW_S - 600.0, state_since_s=NOW_S - 500.0),))
    assert short(decide(early, DUE)) == []


# Moves


def scattered() -> Snapshot:
    """Two GPUs, each less than half full: one would do."""
    residents = [long_there(replica("a", "n/0", 40)), long_there(replica("b", "n/1", 30))]
    quick = StartTimes(1.0, 0.5)
    models = [replace(model(name, mib, ttl_s=9e9), startup=quick) for name, mib in (("a", 40), ("b", 30))]
    return world({"n/0": 100, "n/1": 100}, models, residents)


def test_a_move_that_empties_a_gpu_is_made_within_the_budget() -> None:
    there = scattered()
    assert short(decide(there)) == []
    plan = decide(there, Policies(defrag="ours"))
    (start,) = plan.actions
    assert isinstance(start, Start)
    assert start.replaces is not None
    assert len({start.gpu, *(one.gpu for one in there.replicas if one.id != start.replaces)}) == 1
    assert short(decide(there, Policies(defrag="ours", defrag_budget=Budget(moves=0)))) == []


def test_what_moves_is_not_touched_by_anything_else_and_leaves_when_its_substitute_serves() -> None:
    there = scattered()
    (start,) = decide(there, Policies(defrag="ours")).actions
    assert isinstance(start, Start)
    old = next(one for one in there.replicas if one.id == start.replaces)
    new = long_there(replace(replica(f"{old.model}-9", start.gpu), footprint=old.footprint, replaces=old.id))
    moved = replace(there, replicas=(*there.replicas, new))
    assert reasons(decide(moved, Policies(defrag="ours"))) == {
        f"stop {old.id}": f"{new.id} has taken the place of {old.id}."
    }


def test_one_that_was_started_by_an_older_card_is_not_started_like_that_again() -> None:
    there = scattered()
    changed = tuple(
        replace(one, footprint=replace(one.footprint, overhead_bytes=one.footprint.overhead_bytes - MIB))
        for one in there.models
    )
    assert short(decide(replace(there, models=changed), Policies(defrag="ours"))) == []


@pytest.mark.parametrize("setting", ["scaling", "defrag", "placement", "eviction"])
def test_every_policy_is_picked_by_name(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"policies\.{setting}: 'magic' is unknown; choose one of "):
        Policies(**{setting: "magic"})  # type: ignore[arg-type]

"""No swap storms, and nobody waits for ever: with patience, in one decision and over time."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from packers.residency.patience import DEFAULT_PATIENCE_S
from packers.state import State
from packers.types import Model, ModelId, Replica, StartTimes
from tests.packers.worlds import NOW_S, PLAIN, decide, gpus, model, nodes, replica, short, world
from tests.packers.yard import DRAIN_S, START_S, Yard

PATIENT = replace(PLAIN, patience_s=30.0)
QUICK = StartTimes(disk_s=START_S, host_s=START_S)


def asked(name: str, mib: int = 60, waited_s: float = 0.0, priority: int = 0) -> Model:
    return replace(model(name, mib, held=1, waited_s=waited_s, priority=priority), startup=QUICK)


def fresh(name: str, gpu: str, mib: int = 60, *, ready_s: float, served: bool = True) -> Replica:
    """Ready for so long."""
    one = replica(name, gpu, mib, idle_s=ready_s - 0.1 if served else ready_s)
    return replace(one, state_since_s=NOW_S - ready_s)


def test_a_replica_stays_as_long_as_its_start_took() -> None:
    there = world({"n/0": 100}, [asked("a"), replace(model("x"), startup=QUICK)], [fresh("x", "n/0", ready_s=0.9)])
    assert short(decide(there)) == ["sleep x-1 for a", "hold a"], "without patience"
    plan = decide(there, PATIENT)
    assert short(plan) == ["hold a"]
    assert "x (only just there)" in plan.actions[0].reason
    assert State.of(there).next_time_s(NOW_S, patience_s=30.0) == NOW_S + 0.1
    older = replace(there, replicas=(fresh("x", "n/0", ready_s=1.0),))
    assert short(decide(older, PATIENT)) == ["sleep x-1 for a", "hold a"]


def test_one_that_has_not_served_stays_for_twice_as_long() -> None:
    models = [asked("a"), replace(model("x"), startup=QUICK)]
    for ready_s, expected in ((1.9, ["hold a"]), (2.0, ["sleep x-1 for a", "hold a"])):
        there = world({"n/0": 100}, models, [fresh("x", "n/0", ready_s=ready_s, served=False)])
        assert short(decide(there, PATIENT)) == expected


def test_who_has_waited_for_too_long_comes_first_and_is_not_held_up() -> None:
    models = [asked("late", waited_s=DEFAULT_PATIENCE_S), asked("vip", priority=9), replace(model("x"), startup=QUICK)]
    plan = decide(world({"n/0": 100}, models, [fresh("x", "n/0", ready_s=0.1)]), PATIENT)
    assert short(plan) == ["sleep x-1 for late", "hold late", "hold vip"]


def test_the_gpu_that_comes_closest_is_kept_for_it_and_empties_bit_by_bit() -> None:
    """Those that callers use have not had their turn yet."""
    busy, far = replica("busy", "n/0", 50, busy=1), replica("far", "n/1", 90, busy=1)
    residents = [*(replace(one, state_since_s=NOW_S - 4.9) for one in (busy, far)), replica("idle", "n/0", 20)]
    models = [asked("late", 100, waited_s=DEFAULT_PATIENCE_S), asked("small", 20)]
    models += [model("busy", 50, in_flight=1), model("idle", 20), model("far", 90, in_flight=1)]
    there = world({"n/0": 100, "n/1": 100}, models, residents)
    assert short(decide(there)) == ["hold late", "start small on n/0"]
    plan = decide(there, PATIENT)
    assert short(plan) == ["hold late", "sleep idle-1 for late", "hold small"]


def turns(since_s: float, **more: object) -> tuple[Model, Model, Replica]:
    """One that waits and is overdue, and one that callers use, ready for so long."""
    resident = replace(replica("x", "n/0", 60, busy=2), state_since_s=NOW_S - since_s)
    return asked("late", waited_s=40.0), replace(model("x", in_flight=2, **more), startup=QUICK), resident  # type: ignore[arg-type]


def test_one_that_callers_use_all_the_time_gives_way_after_its_turn() -> None:
    """A turn is a sixth of the patience, 5 s here, or two of its own starts."""
    late, busy, fresh_one = turns(4.9)
    there = world({"n/0": 100}, [late, busy], [fresh_one])
    assert short(decide(there, PATIENT)) == ["hold late"]
    assert State.of(there).next_time_s(NOW_S, patience_s=30.0) == NOW_S + 5.0 - 4.9
    late, busy, old_one = turns(5.0)
    there = world({"n/0": 100}, [late, busy], [old_one])
    plan = decide(there, PATIENT)
    assert short(plan) == ["sleep x-1 for late", "hold late"]
    assert "in use, and it has had its turn of 5 s" in plan.actions[0].reason
    assert short(decide(there)) == ["hold late"], "without patience it never does"
    slow = replace(busy, startup=StartTimes(20.0, 10.0))
    assert short(decide(replace(there, models=(late, slow)), PATIENT)) == ["hold late"], "two starts: 20 s"


def test_idle_ones_and_those_beyond_min_replicas_give_way_before_it() -> None:
    late, busy, resident = turns(60.0)
    there = world({"n/0": 100, "n/1": 100}, [late, busy, model("y")], [resident, replica("y", "n/1", 60)])
    assert short(decide(there, PATIENT)) == ["sleep y-1 for late", "hold late"]
    for kept in ({"min_replicas": 1}, {"pinned": True}):
        late, busy, resident = turns(60.0, **kept)
        assert short(decide(world({"n/0": 100}, [late, busy], [resident]), PATIENT)) == ["hold late"], kept
    late, busy, resident = turns(60.0, min_replicas=1)
    vip = replace(late, priority=1)
    assert short(decide(world({"n/0": 100}, [vip, busy], [resident]), PATIENT)) == ["sleep x-1 for late", "hold late"]


def test_between_two_evictions_a_gpu_rests() -> None:
    rested = replace(PATIENT, swaps_per_minute=12.0)
    models = [asked("a", waited_s=9.0), replace(model("x"), startup=QUICK)]
    there = world({"n/0": 100}, models, [fresh("x", "n/0", ready_s=60)])
    assert short(decide(there, rested)) == ["sleep x-1 for a", "hold a"]
    just_now = replace(there, swapped=((there.gpus[0].id, NOW_S - 4.9),))
    plan = decide(just_now, rested)
    assert short(plan) == ["hold a"]
    assert "Replicas were evicted there a moment ago: at most 12 times a minute." in plan.actions[0].reason
    assert State.of(just_now).next_time_s(NOW_S, rest_s=rested.rest_s) == NOW_S - 4.9 + 5.0
    assert State.of(just_now).snapshot(just_now.id, NOW_S) == just_now
    later = replace(there, swapped=((there.gpus[0].id, NOW_S - 5.0),))
    assert short(decide(later, rested)) == ["sleep x-1 for a", "hold a"]
    assert short(decide(just_now, PATIENT)) == ["sleep x-1 for a", "hold a"], "120 a minute unless configured"


def test_two_needs_do_not_evict_from_the_same_gpu_at_once() -> None:
    rested = replace(PLAIN, swaps_per_minute=12.0)
    models = [asked("a", 50, waited_s=9.0), asked("b", 50), model("x", 50), model("y", 50)]
    there = world({"n/0": 100}, models, [replica("x", "n/0", 50, idle_s=20), replica("y", "n/0", 50)])
    assert short(decide(there)) == ["sleep x-1 for a", "hold a", "sleep y-1 for b", "hold b"]
    assert short(decide(there, rested)) == ["sleep x-1 for a", "hold a", "hold b"]
    free = replace(there, swapped=((there.gpus[0].id, NOW_S),), replicas=there.replicas[:1])
    assert short(decide(free, rested))[0] == "start a on n/0", "free room needs no swap"


@st.composite
def storms(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Small models that are asked for all the time, so that one that needs the whole GPU never finds it empty."""
    return [
        (f"s{draw(st.integers(0, 3))}", at, draw(st.integers(1, 15)))
        for at in range(0, 1200, draw(st.sampled_from([5, 7, 10])))
    ]


@settings(max_examples=25, deadline=None)
@given(storms(), st.integers(10, 300))
def test_however_others_press_in_a_model_is_served_within_its_patience(
    storm: list[tuple[str, int, int]], at: int
) -> None:
    """Those of the GPU's replicas that are busy then finish what they have; nobody new comes."""
    there = gpus({"n/0": 100})
    small = [replace(model(f"s{place}", 45, priority=5), startup=QUICK) for place in range(4)]
    yard = Yard(there, nodes(there, 1000), [*small, replace(model("large", 100), startup=QUICK)], PATIENT)
    for name, tenth, tenths in storm:
        yard.request(ModelId(name), tenth / 10, tenths / 10)
    large = yard.request(ModelId("large"), at / 10, 0.5)
    yard.run(125)
    assert large.served_s is not None
    longest_service_s = 1.5
    # Everybody in its way is idle once after that, for a moment at least, and leaves.
    bound_s = DEFAULT_PATIENCE_S + 8 * (START_S + longest_service_s + DRAIN_S)
    assert large.served_s - large.at_s <= bound_s

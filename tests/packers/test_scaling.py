"""How many replicas a model should have, and who need not stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packers.load import Load
from packers.scaling import desired_replicas, last_use_s, roll, stand
from packers.types import Model, Replica, ReplicaId, ReplicaState
from tests.packers.worlds import ASLEEP, DEAD, DRAINING, NOW_S, READY, STARTING, model, replica


def ids(replicas: tuple[Replica, ...]) -> list[ReplicaId]:
    return [one.id for one in replicas]


@pytest.mark.parametrize(
    ("of", "count", "why"),
    [
        (model("a"), 0, "min_replicas is 0"),
        (model("a", held=1), 1, "1 request in flight or held"),
        (model("a", operator_wake=True), 1, "an operator asked for it"),
        (model("a", min_replicas=2, max_replicas=3), 2, "min_replicas is 2"),
        (model("a", min_replicas=2, max_replicas=3, held=1), 2, "min_replicas is 2"),
        (model("a", max_replicas=9, held=64), 2, "64 requests in flight or held"),
        (model("a", max_replicas=9, held=40, in_flight=25), 2, "40 requests in flight or held"),
        (model("a", in_flight=25), 0, "min_replicas is 0"),
        (model("a", max_replicas=2, held=1000), 2, "1000 requests in flight or held"),
        (model("a", max_replicas=9, held=5, target_in_flight=1), 5, "5 requests in flight or held"),
        (model("a", max_replicas=9, held=5, target_in_flight=0), 5, "5 requests in flight or held"),
        (model("a", max_replicas=0, held=5), 0, "5 requests in flight or held"),
        (model("a", min_replicas=1, operator_wake=True), 1, "min_replicas is 1"),
    ],
)
def test_demand_and_bounds_say_how_many(of: Model, count: int, why: str) -> None:
    desired = desired_replicas(of, [], NOW_S)
    assert (desired.count, desired.why, desired.missing) == (count, why, count)


def test_requests_in_flight_count_where_a_replica_serves_them_and_call_for_no_first_one() -> None:
    of = model("a", max_replicas=9, held=40, in_flight=25)
    assert desired_replicas(of, [replica("a-1", "n/0", state=READY)], NOW_S).count == 3
    assert desired_replicas(of, [replica("a-1", "n/0", state=DRAINING)], NOW_S).count == 2


def test_ready_and_starting_count_sleeping_draining_and_dead_do_not() -> None:
    states = [READY, STARTING, ASLEEP, DRAINING, DEAD]
    mine = [replica(f"a-{place}", "n/0", state=state) for place, state in enumerate(states)]
    desired = desired_replicas(model("a", held=99, target_in_flight=33, max_replicas=9), mine, NOW_S)
    assert (desired.count, desired.coming, desired.missing) == (3, 2, 1)


def test_replicas_of_other_models_are_passed_over() -> None:
    assert desired_replicas(model("a", held=1), [replica("b", "n/0")], NOW_S).missing == 1


def test_an_idle_replica_expires_after_its_ttl() -> None:
    young, old = replica("a-1", "n/0", idle_s=59.9), replica("a-2", "n/0", idle_s=60)
    desired = desired_replicas(model("a", ttl_s=60, max_replicas=2), [young, old], NOW_S)
    assert ids(desired.expired) == ["a-2"]


def test_a_replica_that_just_became_ready_has_its_ttl_before_it() -> None:
    fresh = Replica(ReplicaId("a-1"), model("a").id, replica("a", "n/0").gpu, READY, model("a").footprint)
    assert last_use_s(fresh) == 0.0
    started = replica("a", "n/0", idle_s=5000)
    just_ready = Replica(
        started.id, started.model, started.gpu, READY, started.footprint, last_used_s=0.0, state_since_s=NOW_S - 1
    )
    assert last_use_s(just_ready) == NOW_S - 1
    assert desired_replicas(model("a", ttl_s=60), [just_ready], NOW_S).expired == ()


@pytest.mark.parametrize(
    "kept",
    [
        (model("a", ttl_s=60, min_replicas=1), replica("a", "n/0", idle_s=999)),
        (model("a", ttl_s=60, pinned=True), replica("a", "n/0", idle_s=999)),
        (model("a", ttl_s=60), replica("a", "n/0", idle_s=999, pinned=True)),
        (model("a", ttl_s=60), replica("a", "n/0", idle_s=999, busy=1)),
        (model("a", ttl_s=60, held=1), replica("a", "n/0", idle_s=999)),
        (model("a", ttl_s=60), replica("a", "n/0", idle_s=999, state=STARTING)),
    ],
)
def test_who_is_wanted_pinned_or_busy_does_not_expire(kept: tuple[Model, Replica]) -> None:
    assert desired_replicas(kept[0], [kept[1]], NOW_S).expired == ()


def test_beyond_what_is_desired_the_longest_unused_expire_first() -> None:
    mine = [replica(f"a-{place}", "n/0", idle_s=100 * place) for place in (1, 2, 3)]
    desired = desired_replicas(model("a", ttl_s=60, min_replicas=1, max_replicas=3), mine, NOW_S)
    assert ids(desired.expired) == ["a-3", "a-2"]


def scaled_down(of: Model, mine: list[Replica], to: int, linger_s: float | None = 0.0) -> list[ReplicaId]:
    return ids(stand(of, roll(of.id, mine), to, "so many are wanted", linger_s).expired(NOW_S))


def test_of_surplus_ones_those_with_the_least_to_finish_leave_before_they_are_idle() -> None:
    mine = [replica(f"a-{number}", "n/0", busy=busy, idle_s=0) for number, busy in ((1, 5), (2, 0), (3, 2), (4, 2))]
    of = model("a", in_flight=9, max_replicas=9)
    leave = [scaled_down(of, mine, count) for count in (4, 3, 2, 1)]
    assert leave == [[], ["a-2"], ["a-2", "a-3"], ["a-2", "a-3", "a-4"]]


@pytest.mark.parametrize(
    ("of", "pinned", "linger_s"),
    [
        (model("a", in_flight=2, max_replicas=2), False, None),
        (model("a", in_flight=2, max_replicas=2), False, 5.0),
        (model("a", in_flight=2, max_replicas=2), True, 0.0),
        (model("a", in_flight=2, max_replicas=2, pinned=True), False, 0.0),
        (replace(model("a", in_flight=2, max_replicas=2), load=Load(service_s=20.0)), False, 0.0),
    ],
)
def test_a_busy_one_stays_where_nothing_says_that_it_may_go_at_once(
    of: Model, pinned: bool, linger_s: float | None
) -> None:
    """Or where its requests are so long that some would not be finished in time."""
    mine = [replica(f"a-{number}", "n/0", busy=1, pinned=pinned) for number in (1, 2)]
    assert scaled_down(of, mine, 1, linger_s) == []


def test_the_last_one_that_serves_is_idle_before_it_leaves() -> None:
    mine = [replica(f"a-{number}", "n/0", busy=number) for number in (1, 2)]
    assert scaled_down(model("a", in_flight=3, max_replicas=2), mine, 0) == ["a-1"]


def test_a_substitute_and_the_one_whose_place_it_takes_are_no_surplus() -> None:
    """The old one is stopped for it; were the new one to go because it has nothing to do yet, both would be gone."""
    old, new = replica("a-1", "n/0", busy=1), replace(replica("a-2", "n/1"), replaces=ReplicaId("a-1"))
    assert scaled_down(model("a", in_flight=1), [old, new], 1) == []
    assert scaled_down(model("a", in_flight=1, max_replicas=3), [old, new, replica("a-3", "n/1", idle_s=99)], 1) == [
        "a-3"
    ]


def test_a_sleeper_is_forgotten_after_ten_ttls() -> None:
    kept, gone = replica("a-1", "n/0", state=ASLEEP, idle_s=599), replica("a-2", "n/0", state=ASLEEP, idle_s=600)
    assert ids(desired_replicas(model("a", ttl_s=60, max_replicas=2), [kept, gone], NOW_S).forgotten) == ["a-2"]


@pytest.mark.parametrize(
    "kept",
    [
        (model("a", ttl_s=60, pinned=True), replica("a", "n/0", state=ASLEEP, idle_s=9999)),
        (model("a", ttl_s=60), replica("a", "n/0", state=ASLEEP, idle_s=9999, pinned=True)),
        (model("a", ttl_s=60, held=1), replica("a", "n/0", state=ASLEEP, idle_s=9999)),
        (model("a", ttl_s=60), replica("a", "n/0", state=ASLEEP, idle_s=9999, to=DEAD)),
    ],
)
def test_a_sleeper_that_is_pinned_needed_or_ending_is_not_forgotten(kept: tuple[Model, Replica]) -> None:
    assert desired_replicas(kept[0], [kept[1]], NOW_S).forgotten == ()


def test_a_sleeper_beside_enough_ready_ones_is_not_kept() -> None:
    asleep, ready = replica("a-1", "n/0", state=ASLEEP), replica("a-2", "n/1")
    assert ids(desired_replicas(model("a"), [asleep, ready], NOW_S).forgotten) == ["a-1"]
    assert desired_replicas(model("a", max_replicas=2), [asleep, ready], NOW_S).forgotten == ()


def test_while_the_new_one_still_starts_the_sleeper_stays() -> None:
    asleep, starting = replica("a-1", "n/0", state=ASLEEP), replica("a-2", "n/1", state=STARTING)
    assert desired_replicas(model("a", held=1), [asleep, starting], NOW_S).forgotten == ()


def test_a_sleeper_never_used_counts_from_when_it_fell_asleep() -> None:
    asleep = replica("a", "n/0", state=ASLEEP)
    never = Replica(asleep.id, asleep.model, asleep.gpu, ASLEEP, asleep.footprint, state_since_s=NOW_S - 5)
    assert last_use_s(never) == NOW_S - 5
    assert last_use_s(replica("a", "n/0", state=ReplicaState.ASLEEP, idle_s=50)) == NOW_S - 50

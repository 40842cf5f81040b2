"""What is brought back although nobody asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from packers.eviction import EVICTION, Eviction, Harm, Shelf, Victim
from packers.residency import RESIDENCY
from packers.residency.prewarm import AT_ONCE, Return, Sleeper, returns, turnover_s
from packers.types import Model
from tests.packers.residency.past import asleep, ready, used
from tests.packers.worlds import MIB, gpus

NOW_S = 1_000.0
HOT = used("hot", range(0, 990, 10))
COLD = used("cold", [0.0])


def sleeper(one: Model) -> Sleeper:
    return Sleeper(one, asleep(one), one.usage.last_s)


def room(*victims: Model, free: int = 0, harm: Harm = Harm.NONE, policy: str = "ours") -> Sequence[Eviction]:
    (gpu,) = gpus({"n/0": 80})
    there = tuple(Victim(ready(one), False, one.footprint.gpu_bytes, one.usage.last_s, 0, harm, one) for one in victims)
    return EVICTION[policy]([Shelf(gpu, 60 * MIB, free * MIB, None, there, NOW_S)])


def brought(
    *sleepers: Model, place: Sequence[Eviction], stay_s: float = 600.0, policy: str = "ours", loading: int = 0
) -> Return | None:
    return returns(RESIDENCY[policy], [sleeper(one) for one in sleepers], lambda _: place, NOW_S, stay_s, loading)


def test_what_is_used_all_the_time_comes_back_for_what_is_not() -> None:
    found = brought(HOT, place=room(COLD))
    assert found is not None
    assert found.sleeper.model.id == "hot"
    assert [victim.replica.model for victim in found.place.victims] == ["cold"]
    assert "likely to be used soon" in found.why


def test_but_not_the_other_way_round_nor_for_its_like() -> None:
    assert brought(COLD, place=room(HOT)) is None
    assert brought(HOT, place=room(used("twin", range(0, 990, 10)))) is None


def test_of_several_the_most_worth_comes_first() -> None:
    found = brought(COLD, used("warm", range(0, 990, 90)), HOT, place=room(free=60))
    assert found is not None
    assert found.sleeper.model.id == "hot"


def test_even_free_memory_is_not_filled_with_what_will_not_be_used() -> None:
    assert brought(COLD, place=room(free=60), stay_s=60.0) is None
    assert brought(HOT, place=room(free=60), stay_s=60.0) is not None


def test_where_memory_changes_hands_at_once_nothing_is_worth_a_load() -> None:
    assert brought(HOT, place=room(free=60), stay_s=0.5) is None


def test_what_its_ttl_would_let_go_again_before_its_next_use_stays_asleep() -> None:
    rare = used("rare", range(0, 990, 90))
    assert brought(rare, place=room(free=60)) is not None
    assert brought(replace(rare, ttl_s=5.0), place=room(free=60)) is None


def test_nobody_falls_below_min_replicas_for_it() -> None:
    assert brought(HOT, place=room(COLD, harm=Harm.MINIMUM)) is None


def test_only_so_many_at_a_time_and_only_where_there_is_a_place() -> None:
    assert brought(HOT, place=room(COLD), loading=AT_ONCE) is None
    assert brought(HOT, place=()) is None


@pytest.mark.parametrize("policy", ["lru", "ttl", "gdsf", "rate"])
def test_most_policies_bring_nothing_back(policy: str) -> None:
    assert brought(HOT, place=room(free=60, policy=policy), policy=policy) is None


def test_hybrid_brings_back_what_is_due_but_evicts_nobody_for_it() -> None:
    due = used("due", range(-9_800, 101, 900))
    early = used("early", range(-8_910, 991, 900))
    free, full = room(free=60, policy="hybrid"), room(COLD, policy="hybrid")
    assert brought(due, place=full, policy="hybrid") is None
    assert brought(early, place=free, policy="hybrid") is None
    found = brought(early, due, place=free, policy="hybrid")
    assert found is not None
    assert (found.sleeper.model.id, found.why) == ("due", "its next use is due")


def test_turnover_is_read_off_the_middle_age() -> None:
    assert turnover_s([], NOW_S) == 0.0
    assert turnover_s([900.0, 0.0, 996.0], NOW_S) == pytest.approx(50.0)

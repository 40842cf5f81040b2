"""Evicting by worth: cost, size and rate decide whom, among those who may go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.eviction import EVICTION, Harm, Shelf, Victim
from packers.residency import RESIDENCY, Stay, Tier
from packers.types import Model
from tests.packers.residency.past import ready, used
from tests.packers.worlds import MIB, gpus

NOW_S = 1_000.0
OFTEN = tuple(float(second) for second in range(0, 990, 10))
SELDOM = tuple(float(second) for second in range(0, 990, 300))


def victim(one: Model, harm: Harm = Harm.NONE) -> Victim:
    return Victim(ready(one), False, one.footprint.gpu_bytes, one.usage.last_s, one.priority, harm, one)


def shelf(gpu: str, needs: int, free: int, *models: Model) -> Shelf:
    (there,) = gpus({gpu: 1000})
    return Shelf(there, needs * MIB, free * MIB, None, tuple(victim(one) for one in models), NOW_S)


def chosen(policy: str, *shelves: Shelf) -> tuple[str, list[str]]:
    best = EVICTION[policy](shelves)[0]
    return best.shelf.gpu.id, sorted(one.replica.model for one in best.victims)


@pytest.mark.parametrize("policy", ["rate", "ours", "gdsf"])
def test_the_seldom_used_goes_although_it_was_used_last(policy: str) -> None:
    seldom = used("seldom", (*SELDOM, 995.0))
    assert chosen(policy, shelf("n/0", 60, 0, used("often", OFTEN), seldom)) == ("n/0", ["seldom"])
    assert chosen("lru", shelf("n/0", 60, 0, used("often", OFTEN), seldom)) == ("n/0", ["often"])


@pytest.mark.parametrize("policy", ["rate", "ours"])
def test_two_small_ones_or_one_large_one_is_a_question_of_cost(policy: str) -> None:
    small = [used(name, SELDOM, 30) for name in ("s1", "s2")]
    assert chosen(policy, shelf("n/0", 60, 0, *small, used("large", OFTEN, 60))) == ("n/0", ["s1", "s2"])
    small = [used(name, OFTEN, 30) for name in ("s1", "s2")]
    assert chosen(policy, shelf("n/0", 60, 0, *small, used("large", OFTEN, 60))) == ("n/0", ["large"])


def test_between_gpus_sums_of_worth_are_compared() -> None:
    pair = shelf("n/0", 60, 0, used("a", SELDOM, 30), used("b", SELDOM, 30))
    hot = shelf("n/1", 60, 0, used("c", OFTEN, 60))
    assert chosen("ours", pair, hot) == ("n/0", ["a", "b"])


def test_what_is_freed_beyond_the_need_is_not_lost() -> None:
    """A huge one that nobody uses goes before a tiny one that is used a little."""
    huge, tiny = used("huge", (5.0,), 600), used("tiny", SELDOM, 20)
    assert chosen("ours", shelf("n/0", 20, 0, huge, tiny)) == ("n/0", ["huge"])


def test_harm_outweighs_any_worth() -> None:
    (there,) = gpus({"n/0": 1000})
    cheap, dear = victim(used("minimum", (1.0,)), Harm.MINIMUM), victim(used("dear", OFTEN))
    for policy in EVICTION.values():
        (best,) = policy([Shelf(there, 60 * MIB, 0, None, (cheap, dear), NOW_S)])
        assert [one.replica.model for one in best.victims] == ["dear"]


ROWS = st.lists(
    st.tuples(st.integers(1, 60), st.lists(st.floats(0, 990), max_size=6), st.integers(0, 1), st.sampled_from(Harm)),
    max_size=6,
)


@given(ROWS, st.integers(1, 120), st.sampled_from(sorted(EVICTION)))
def test_every_policy_makes_room_without_needless_victims_in_any_order(
    rows: list[tuple[int, list[float], int, Harm]], needs: int, policy: str
) -> None:
    (there,) = gpus({"n/0": 1000})
    victims = tuple(
        victim(used(f"m{n}", sorted(times_s), mib, priority=rank), harm)
        for n, (mib, times_s, rank, harm) in enumerate(rows)
    )
    found = EVICTION[policy]([Shelf(there, needs * MIB, 0, None, victims, NOW_S)])
    backwards = EVICTION[policy]([Shelf(there, needs * MIB, 0, None, victims[::-1], NOW_S)])
    assert [(one.victims, one.score) for one in found] == [(one.victims, one.score) for one in backwards]
    assert bool(found) == (sum(one.frees_bytes for one in victims) >= needs * MIB)
    for eviction in found:
        assert eviction.slack_bytes >= 0
        assert all(eviction.slack_bytes < one.frees_bytes for one in eviction.victims)


@given(ROWS, st.integers(1, 120))
def test_ours_never_pays_more_than_for_the_best_single_one(
    rows: list[tuple[int, list[float], int, Harm]], needs: int
) -> None:
    """With the credit for what is freed beyond the need, at the price of the cheapest."""
    (there,) = gpus({"n/0": 1000})
    victims = [victim(used(f"m{n}", sorted(times_s), mib)) for n, (mib, times_s, _, _) in enumerate(rows)]
    policy = RESIDENCY["ours"]

    def worth(one: Victim) -> float:
        return policy.value(one.model, Stay(Tier.GPU, NOW_S, one.last_use_s, 0.0, one.frees_bytes))

    for best in EVICTION["ours"]([Shelf(there, needs * MIB, 0, None, tuple(victims), NOW_S)]):
        price = min(worth(one) / one.frees_bytes for one in victims)
        paid = best.score - price * best.slack_bytes
        for one in victims:
            if one.frees_bytes >= needs * MIB:
                assert paid <= worth(one) - price * (one.frees_bytes - needs * MIB) + 1e-12

"""Which replica: revisions by their share, sessions at home, prompts that begin alike together, the rest by load."""

from __future__ import annotations

from collections import Counter
from math import ceil
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.admit.picking import BOUND, bounded_home_of, home_of, of_revision, of_two, others, pick
from gateway.admit.target import NO_LIMIT, Target, share_of
from packers.types import ReplicaId

KEYS = st.integers(1, 2**64 - 1)


def target(name: str, flying: int = 0, tokens: int | None = None, **kwargs: object) -> Target:
    made = Target(ReplicaId(name), f"unix:/{name}", flying=flying, tokens=flying if tokens is None else tokens)
    for field, value in kwargs.items():
        setattr(made, field, value)
    return made


def targets(*loads: int) -> list[Target]:
    return [target(f"m-{number}", flying=load) for number, load in enumerate(loads)]


def test_slots_are_shared_and_unknown_ones_are_no_limit() -> None:
    assert [share_of(slots, 3) for slots in (1, 3, 4, 9)] == [1, 1, 2, 3]
    assert share_of(0, 3) == NO_LIMIT


def test_the_one_that_was_lost_is_avoided_unless_there_is_no_other() -> None:
    free, lost = target("free"), target("lost")
    assert others([free, lost], avoid=("lost",)) == [free]
    assert others([lost], avoid=("lost",)) == [lost]


# -- by load ---------------------------------------------------------------------------------------------------------


def test_the_first_is_picked_while_it_is_idle_so_that_the_others_fall_idle() -> None:
    assert {pick(targets(0, 0, 3, 0), 0, seed, Random(seed)).id for seed in range(20)} == {"m-0"}
    assert {pick(targets(1, 0, 0, 0), 0, seed, Random(seed)).id for seed in range(50)} > {"m-1", "m-2"}


def test_weights_count_while_nothing_is_going_on_as_well() -> None:
    there, rng = [target("big", weight=3.0), target("small", weight=1.0)], Random(1)
    for key in (lambda number: 0, lambda number: number):
        picked = Counter(pick(there, 0, key(number), rng, even=False).id for number in range(4000))
        assert 2850 < picked[ReplicaId("big")] < 3150
    homes = Counter(pick(there, number, 0, rng, even=False).id for number in range(1, 4001))
    assert 2850 < homes[ReplicaId("big")] < 3150


@given(st.lists(st.integers(0, 50), min_size=2, max_size=2), st.randoms(use_true_random=False))
def test_of_two_the_lighter_is_picked_and_of_equals_the_first(loads: list[int], rng: Random) -> None:
    there = targets(*loads)
    assert of_two(there, rng) is there[loads.index(min(loads))]


@given(st.lists(st.integers(0, 50), min_size=2, max_size=20, unique=True), st.randoms(use_true_random=False))
def test_the_heaviest_of_all_is_never_picked(loads: list[int], rng: Random) -> None:
    assert of_two(targets(*loads), rng).tokens < max(loads)


def test_work_counts_by_weight() -> None:
    big, small = target("big", 3, tokens=300, weight=4.0), target("small", 1, tokens=100, weight=1.0)
    assert of_two([small, big], Random(0)) is big


def test_two_choices_keep_the_load_even() -> None:
    """Far better than at random, where the fullest of 10 would have some 130 of 1,000 (Mitzenmacher 2001)."""
    there, rng = targets(*[0] * 10), Random(3)
    for _ in range(1000):
        chosen = of_two(there, rng)
        chosen.flying += 1
        chosen.tokens += 1
    assert max(one.tokens for one in there) <= 104


# -- at home ---------------------------------------------------------------------------------------------------------


@given(KEYS, st.integers(2, 12), st.data())
def test_a_session_stays_at_home_whoever_else_comes_or_goes(key: int, count: int, data: st.DataObject) -> None:
    there = targets(*[0] * count)
    home = home_of(there, key)
    others = [one for one in there if one is not home]
    stay = data.draw(st.lists(st.sampled_from(others), unique_by=lambda one: one.id))
    assert home_of(data.draw(st.permutations([home, *stay])), key) is home


def test_when_a_replica_goes_only_its_sessions_move_and_to_all_of_the_others() -> None:
    there = targets(0, 0, 0, 0)
    homes = {key: home_of(there, key) for key in range(1, 2001)}
    moved = Counter(home_of(there[1:], key).id for key, home in homes.items() if home is there[0])
    assert all(home_of(there[1:], key) is home for key, home in homes.items() if home is not there[0])
    assert set(moved) == {"m-1", "m-2", "m-3"}


def test_sessions_are_spread_evenly() -> None:
    there = targets(*[0] * 8)
    homes = Counter(home_of(there, key).id for key in range(1, 8001))
    assert len(homes) == 8
    assert max(homes.values()) < 1150
    assert min(homes.values()) > 850


def test_all_workers_agree_on_where_home_is() -> None:
    """The salts and the hash are not seeded anew in each process."""
    assert [home_of(targets(0, 0, 0, 0, 0), key).id for key in (1, 2**40 + 7, 2**64 - 1, 12345)] == [
        "m-4", "m-4", "m-2", "m-2",
    ]  # fmt: skip


@given(KEYS, st.lists(st.integers(0, 30), min_size=2, max_size=12))
def test_nobody_takes_more_than_a_bounded_part_of_the_load(key: int, loads: list[int]) -> None:
    there = targets(*loads)
    chosen = bounded_home_of(there, key)
    assert chosen.flying + 1 <= ceil(BOUND * (sum(loads) + 1) / len(loads))


@given(KEYS, st.integers(2, 12), st.integers(0, 5))
def test_prompts_that_begin_alike_meet_while_the_load_is_even(key: int, count: int, load: int) -> None:
    there = targets(*[load] * count)
    assert bounded_home_of(there, key) is home_of(there, key)


def test_a_prompt_that_everybody_sends_spreads_as_far_as_it_must() -> None:
    there = targets(0, 0, 0, 0)
    for _ in range(100):
        bounded_home_of(there, 42).flying += 1
    assert max(one.flying for one in there) <= ceil(BOUND * 25)
    assert sum(one.flying for one in there) == 100


def test_a_heavier_replica_takes_more_of_a_prompt_that_everybody_sends() -> None:
    there = [target("big", weight=3.0), target("small", weight=1.0)]
    for _ in range(100):
        bounded_home_of(there, 42).flying += 1
    assert 50 < there[0].flying <= ceil(BOUND * 75)


# -- revisions -------------------------------------------------------------------------------------------------------


def revisions(**counts: int) -> list[Target]:
    return [target(f"{name}-{number}", revision=name) for name, count in counts.items() for number in range(count)]


def test_a_revision_gets_its_share_however_many_replicas_it_has() -> None:
    there, rng, traffic = revisions(old=1, new=5), Random(5), {"old": 0.9, "new": 0.1}
    drawn = Counter(of_revision(there, traffic, 0, rng)[0].revision for _ in range(5000))
    assert 420 < drawn["new"] < 580


def test_a_session_keeps_its_revision_and_a_growing_share_moves_only_some() -> None:
    there, rng = revisions(new=1, old=1), Random(5)

    def drawn(part: float) -> dict[int, str]:
        traffic = {"new": part, "old": 1.0 - part}
        return {key: of_revision(there, traffic, key, rng)[0].revision for key in range(1, 2001)}

    few, again, more = drawn(0.1), drawn(0.1), drawn(0.3)
    assert few == again
    assert 140 < sum(name == "new" for name in few.values()) < 260
    assert all(more[key] == "new" for key, name in few.items() if name == "new")


def test_a_revision_without_replicas_leaves_its_share_to_the_others() -> None:
    there = revisions(old=2)
    assert of_revision(there, {"old": 0.1, "new": 0.9}, 0, Random(0)) == there


def test_a_revision_without_a_share_gets_nothing_while_another_has_one() -> None:
    there, rng = revisions(old=1, new=1), Random(0)
    assert {of_revision(there, {"old": 1.0, "new": 0.0}, 0, rng)[0].revision for _ in range(50)} == {"old"}
    alone = revisions(new=1)
    assert of_revision(alone, {"old": 1.0}, 0, rng) == alone, "better that one than none"


# -- all of it -------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8),
    st.integers(0, 2**32),
    st.integers(0, 2**32),
    st.randoms(use_true_random=False),
)
def test_somebody_is_always_picked(loads: list[int], session: int, prefix: int, rng: Random) -> None:
    there = targets(*loads)
    assert pick(there, session, prefix, rng) in there


def test_a_session_counts_more_than_a_prompt() -> None:
    there = targets(0, 0, 0, 0)
    assert {pick(there, 77, prefix, Random(0)).id for prefix in range(1, 50)} == {home_of(there, 77).id}

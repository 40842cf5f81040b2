"""Shares of the work that tenants are guaranteed, whatever the others' number and weights."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admit.fairness import FairQueue
from tests.gateway.admit.held import caller, filled, given_out, ticket


def test_a_guaranteed_share_holds_against_many_and_heavy_tenants() -> None:
    others = [ticket(f"other-{n}", weight=100.0) for n in range(20) for _ in range(50)]
    queue = filled(*others, *[ticket("ours", share=0.3) for _ in range(400)])
    turns = given_out(queue, 1000)
    assert turns["ours"] == pytest.approx(0.3 * 10_000, abs=20)
    assert {turns[f"other-{n}"] for n in range(20)} == {350}, "they share the rest"


def test_who_would_have_more_by_weight_has_more() -> None:
    queue = filled(
        *[ticket("ours", share=0.2, weight=3.0) for _ in range(200)], *[ticket("theirs") for _ in range(200)]
    )
    turns = given_out(queue, 200)
    assert turns["ours"] == pytest.approx(1500, abs=20)


def test_what_is_guaranteed_to_whoever_is_not_here_is_the_others() -> None:
    queue = filled(*[ticket("ours", share=0.9)], *[ticket("theirs") for _ in range(100)])
    assert queue.pop().caller.tenant == "ours"
    assert given_out(queue, 100) == {"theirs": 1000}


def test_staying_away_saves_up_nothing_of_a_guarantee() -> None:
    queue = filled(*[ticket("theirs", weight=99.0) for _ in range(400)], ticket("ours", share=0.5))
    given_out(queue, 201)
    for _ in range(100):
        queue.add(ticket("ours", share=0.5))
    turns = given_out(queue, 100)
    assert turns["ours"] == pytest.approx(500, abs=10)


def test_whoever_comes_in_with_a_guarantee_is_next() -> None:
    queue = filled(*[ticket("theirs", tokens=1) for _ in range(100)])
    given_out(queue, 50)
    queue.add(ticket("ours", tokens=100, share=0.1))
    assert queue.pop().caller.tenant == "ours"


def test_guarantees_of_more_than_all_are_scaled() -> None:
    queue = filled(*[ticket(name, share=share) for _ in range(300) for name, share in (("a", 0.9), ("b", 0.6))])
    turns = given_out(queue, 300)
    assert turns["a"] == pytest.approx(0.6 * 3000, abs=20)
    assert turns["b"] == pytest.approx(0.4 * 3000, abs=20)


def test_whoever_comes_in_late_has_its_scaled_guarantee_soon() -> None:
    queue = filled(*[ticket(name, share=share) for _ in range(900) for name, share in (("a", 0.9), ("b", 0.6))])
    given_out(queue, 1000)
    for _ in range(100):
        queue.add(ticket("late", share=0.5))
    turns = given_out(queue, 100)
    assert turns["late"] == pytest.approx(250, abs=20)


def test_small_requests_do_not_wait_for_large_ones_of_small_guarantees() -> None:
    large = [ticket(f"large-{n}", tokens=100, share=0.01) for n in range(6) for _ in range(10)]
    queue = filled(*large, *[ticket("small", tokens=1, share=0.5) for _ in range(900)])
    got = Counter[str]()
    for _ in range(500):
        each = queue.pop()
        got[each.caller.tenant] += each.tokens
        assert got["small"] >= 0.5 * (got.total() - 100) - 1


def test_what_was_had_by_a_guarantee_is_not_held_against_it_for_long() -> None:
    """For an hour it had a third of all beside nine others; they leave, and it shares alike with a tenth soon."""
    queue = filled(*[ticket("ours", share=1 / 3) for _ in range(1500)])
    nine = [ticket(f"other-{n}") for n in range(9) for _ in range(70)]
    for each in nine:
        queue.add(each)
    turns = given_out(queue, 900)
    assert turns["ours"] == pytest.approx(3000, abs=20)
    for each in nine:
        queue.remove(each)
    for _ in range(300):
        queue.add(ticket("tenth"))
    turns = given_out(queue, 100)
    assert turns["ours"] >= 500 - 40
    turns = given_out(queue, 100)
    assert turns["ours"] == pytest.approx(500, abs=10)


def test_a_share_taken_away_leaves_what_its_weight_gives() -> None:
    queue = filled(*[ticket("ours", share=0.8) for _ in range(90)], *[ticket("theirs") for _ in range(400)])
    given_out(queue, 110)
    assert given_out(queue, 5)["theirs"] <= 50
    while any(each.caller.tenant == "ours" for each in queue.tickets()):
        queue.pop()
    for _ in range(100):
        queue.add(ticket("ours"))
    turns = given_out(queue, 80)
    assert turns["ours"] >= 400 - 60


def test_the_wait_of_a_guaranteed_one_is_estimated_by_its_share() -> None:
    queue = filled(*[ticket(f"other-{n}") for n in range(40) for _ in range(2)])
    assert queue.ahead_of(caller("ours")) == 40
    assert queue.ahead_of(caller("ours", share=0.25)) == 3
    assert queue.ahead_of(caller("ours", share=1.0)) == 0


def test_a_guarantee_is_one_of_places_to_wait_in_too() -> None:
    """However many others wait, each with a single request."""
    queue = filled(*[ticket(f"other-{n}") for n in range(100)])
    assert queue.to_make_room(caller("new")) is None
    for number in range(25):
        leaves = queue.to_make_room(caller("ours", share=0.25))
        assert leaves is not None, f"{number} of 100 places are its own"
        assert leaves.caller.tenant != "ours"
        queue.remove(leaves)
        queue.add(ticket("ours", share=0.25))
    assert queue.to_make_room(caller("ours", share=0.25)) is None
    assert queue.to_make_room(caller("new")) is None, "what it has is its own, though it has the most"
    queue.add(extra := ticket("ours", share=0.25))
    assert queue.to_make_room(caller("new")) is extra


def test_of_two_guaranteed_ones_neither_takes_the_others_places() -> None:
    queue = filled(*[ticket("a", share=0.5) for _ in range(50)], *[ticket("b", share=0.4) for _ in range(30)])
    for _ in range(20):
        queue.add(ticket("c"))
    for _ in range(10):
        leaves = queue.to_make_room(caller("b", share=0.4))
        assert leaves is not None
        assert leaves.caller.tenant == "c"
        queue.remove(leaves)
        queue.add(ticket("b", share=0.4))
    assert queue.to_make_room(caller("b", share=0.4)) is None
    assert queue.to_make_room(caller("a", share=0.5)) is None


def test_coming_and_going_leaves_nothing_behind() -> None:
    queue = filled(*[ticket("theirs") for _ in range(3000)])
    for number in range(3000):
        queue.add(passing := ticket(f"passing-{number % 500}", share=0.001))
        if number % 3:
            queue.remove(passing)
        else:
            queue.pop()
        assert len(queue._promises._known) + len(queue._promises._later) + len(queue._promises._now) < 5000
    given_out(queue, queue.count - 1)
    queue.add(ticket("last", share=0.1))
    assert len(queue._promises._later) + len(queue._promises._now) <= 2


def test_turns_by_a_guarantee_leave_nothing_behind() -> None:
    """Small requests beside one that was very large: what they were charged before is not kept."""
    queue = filled(*[ticket("theirs", tokens=1_000_000) for _ in range(3)])
    for _ in range(5000):
        queue.add(ticket("ours", tokens=1, share=0.9))
    queue.pop()
    given_out(queue, 4000)
    assert len(queue._turns._line) < 200


# -- bounds ------------------------------------------------------------------------------------------------------------

tenants = st.dictionaries(
    st.sampled_from("abcdef"),
    st.tuples(
        st.lists(st.integers(1, 100), min_size=60, max_size=60),
        st.sampled_from([0.1, 1.0, 1.0, 50.0]),
        st.sampled_from([0.0, 0.0, 0.05, 0.1, 0.3]),
    ),
    min_size=2,
    max_size=6,
)


def loaded(work: dict[str, tuple[list[int], float, float]]) -> FairQueue:
    return filled(
        *[
            ticket(name, tokens, weight, share=share)
            for name, (all_of, weight, share) in work.items()
            for tokens in all_of
        ]
    )


@settings(max_examples=150, deadline=None)
@given(tenants, st.integers(0, 25))
def test_every_guarantee_holds_over_any_time(work: dict[str, tuple[list[int], float, float]], start: int) -> None:
    """From any moment on: less one request more than from the beginning, for the one that was had just before."""
    queue, got, all_tokens = loaded(work), Counter[str](), 0
    scale = max(1.0, sum(share for _, _, share in work.values()))
    largest = max(max(all_of) for all_of, _, _ in work.values())
    for turn in range(60):
        if turn == start:
            got.clear()
            all_tokens = 0
        each = queue.pop()
        got[each.caller.tenant] += each.tokens
        all_tokens += each.tokens
        for name, (all_of, _, share) in work.items():
            own = max(all_of) * (2 if turn >= start > 0 else 1)
            assert got[name] >= share / scale * (all_tokens - largest) - own - 1e-6, f"{name} after {turn + 1} turns"


@settings(max_examples=100, deadline=None)
@given(tenants)
def test_those_without_a_guarantee_share_the_rest_by_weight(work: dict[str, tuple[list[int], float, float]]) -> None:
    """The bound of Sheng et al. (OSDI 2024, theorem 4.4) among them, whatever others are guaranteed."""
    queue, got = loaded(work), Counter[str]()
    free = {name: weight for name, (_, weight, share) in work.items() if not share}
    for _ in range(60):
        each = queue.pop()
        got[each.caller.tenant] += each.tokens
        for one, other in itertools.combinations(free, 2):
            largest = max(max(work[name][0]) / free[name] for name in (one, other))
            assert abs(got[one] / free[one] - got[other] / free[other]) <= largest + 1e-6


@settings(max_examples=60, deadline=None)
@given(tenants)
def test_nobody_has_more_than_its_guarantee_or_its_weight_gives(
    work: dict[str, tuple[list[int], float, float]],
) -> None:
    """Whoever is guaranteed less than its weight gives has what its weight gives; nobody has both."""
    queue, got, total = loaded(work), Counter[str](), 0
    weights = sum(weight for _, weight, _ in work.values())
    largest = max(max(all_of) / weight for all_of, weight, _ in work.values())
    for _ in range(60):
        each = queue.pop()
        got[each.caller.tenant] += each.tokens
        total += each.tokens
        for name, (all_of, weight, share) in work.items():
            most = max(share, weight / weights) * total
            assert got[name] <= most + 2 * max(all_of) + 5 * largest * weight + 1e-6

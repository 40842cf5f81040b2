"""A tenant's turns are shared among its keys by their weights."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admit.fairness import FairQueue
from gateway.admit.queue import Queue
from tests.gateway.admit.held import caller, filled, ticket


def keys_of(queue: FairQueue, turns: int) -> Counter[str]:
    return Counter(queue.pop().caller.key_id for _ in range(turns))


def test_a_key_that_floods_leaves_its_neighbours_their_turns() -> None:
    queue = filled(*[ticket(key="script") for _ in range(100)], *[ticket(key="app") for _ in range(10)])
    assert keys_of(queue, 20) == {"script": 10, "app": 10}
    assert keys_of(queue, 20) == {"script": 20}


def test_keys_weigh_what_they_are_given() -> None:
    queue = filled(*[ticket(key=key, key_weight=weight) for _ in range(50) for key, weight in (("a", 3.0), ("b", 1.0))])
    assert keys_of(queue, 40) == {"a": 30, "b": 10}


def test_many_keys_are_one_tenant() -> None:
    queue = filled(*[ticket("many", key=f"k{n}") for n in range(30)], *[ticket("one") for _ in range(30)])
    tenants = Counter(queue.pop().caller.tenant for _ in range(20))
    assert tenants == {"many": 10, "one": 10}


def test_keys_weigh_nothing_beside_other_tenants() -> None:
    heavy = [ticket("heavy keys", key_weight=100.0) for _ in range(30)]
    queue = filled(*heavy, *[ticket("other", key_weight=0.01) for _ in range(30)])
    assert Counter(queue.pop().caller.tenant for _ in range(20)) == {"heavy keys": 10, "other": 10}


def test_a_retry_is_the_next_of_its_key() -> None:
    first, second, again = ticket(), ticket(), ticket(retry=True)
    other = ticket(key="other")
    queue = filled(first, second, other, again)
    assert [queue.pop() for _ in range(4)] == [again, other, first, second]


def test_a_flood_makes_room_for_its_tenants_other_keys() -> None:
    queue = Queue()
    flood = [ticket("t", key="script") for _ in range(5)]
    for each in [*flood, ticket("u"), ticket("u")]:
        queue.add(each)
    assert queue.to_make_room(caller("t", key_id="app"), 0) is flood[-1]
    assert queue.to_make_room(caller("t", key_id="script"), 0) is None
    assert queue.to_make_room(caller("u", key_id="app"), 0) is flood[-1], "the tenant with most goes first"
    queue.remove(flood[0])
    queue.remove(flood[1])
    assert queue.to_make_room(caller("u", key_id="app"), 0) is not None, "else it is one of its own"


def test_how_many_are_ahead_counts_keys() -> None:
    queue = filled(*[ticket("t", key="script") for _ in range(50)], *[ticket("u") for _ in range(50)])
    assert queue.ahead_of(caller("t", key_id="app")) == 1 + 2
    assert queue.ahead_of(caller("t", key_id="app", key_weight=0.25)) == 4 + 5
    assert queue.ahead_of(caller("t", key_id="script")) == 50 + 50


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("xy"), st.sampled_from("abc")),
        st.tuples(st.lists(st.integers(1, 100), min_size=40, max_size=40), st.sampled_from([0.5, 1.0, 4.0])),
        min_size=2,
    )
)
def test_keys_with_a_backlog_share_alike_within_the_largest_requests(
    work: dict[tuple[str, str], tuple[list[int], float]],
) -> None:
    queue = filled(
        *[
            ticket(tenant, tokens, key=key, key_weight=weight)
            for (tenant, key), (all_of, weight) in work.items()
            for tokens in all_of
        ]
    )
    given_tokens = dict.fromkeys(work, 0.0)
    for _ in range(40):
        each = queue.pop()
        given_tokens[each.caller.tenant, each.caller.key_id] += each.tokens / each.caller.key_weight
        for one, other in itertools.combinations(work, 2):
            if one[0] == other[0]:
                largest = max(max(work[place][0]) / work[place][1] for place in (one, other))
                assert abs(given_tokens[one] - given_tokens[other]) <= largest + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "pop", "leave"]), st.sampled_from("abc"), st.integers(0, 9)), max_size=60
    )
)
def test_nobody_is_lost_between_keys(happenings: list[tuple[str, str, int]]) -> None:
    queue, there = FairQueue(), []
    for what, key, number in happenings:
        if what == "add":
            queue.add(each := ticket(f"t{number % 2}", key=key, tokens=1 + number, share=0.1 * (number % 2)))
            there.append(each)
        elif there and what == "pop":
            first = queue.pop()
            mine = [one for one in there if one.caller == first.caller]
            assert first is mine[0], "of one key the oldest"
            there.remove(first)
        elif there:
            queue.remove(there.pop(number % len(there)))
        assert queue.count == len(there)
        assert {one.id for one in queue.tickets()} == {one.id for one in there}

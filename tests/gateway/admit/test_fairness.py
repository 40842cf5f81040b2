"""Turns among tenants (virtual token counters) and within one."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.admit.queue import Queue
from gateway.admit.ticket import Ticket
from tests.gateway.admit.held import caller, filled, ticket


def test_within_a_tenant_the_oldest_is_next() -> None:
    tickets = [ticket(tokens=tokens) for tokens in (1000, 1, 50)]
    queue = filled(*tickets)
    assert [queue.pop() for _ in tickets] == tickets


def test_a_retry_is_before_the_others_of_its_tenant() -> None:
    first, second, again = ticket(), ticket(), ticket(retry=True)
    queue = filled(first, second, again)
    assert [queue.pop() for _ in range(3)] == [again, first, second]


def test_tenants_take_turns() -> None:
    a, b = [ticket("a") for _ in range(3)], [ticket("b") for _ in range(3)]
    queue = filled(*a, *b)
    assert [queue.pop().caller.tenant for _ in range(6)] == ["a", "b", "a", "b", "a", "b"]


def test_staying_away_saves_up_no_turns() -> None:
    queue = filled(*[ticket("busy") for _ in range(100)])
    for _ in range(50):
        queue.pop()
    for _ in range(50):
        queue.add(ticket("late"))
    turns = Counter(queue.pop().caller.tenant for _ in range(20))
    assert turns == {"busy": 10, "late": 10}


def test_whoever_was_here_long_ago_begins_where_the_others_are_now() -> None:
    queue = filled(*[ticket("steady") for _ in range(200)], ticket("again", tokens=1))
    for _ in range(100):
        queue.pop()
    for _ in range(50):
        queue.add(ticket("again"))
    turns = Counter(queue.pop().caller.tenant for _ in range(20))
    assert turns == {"steady": 10, "again": 10}


def test_leaving_and_coming_back_gains_nothing() -> None:
    queue = filled(*[ticket("steady") for _ in range(100)])
    served = Counter[str]()
    for _ in range(40):
        restless = ticket("restless")
        queue.add(restless)
        queue.remove(restless)
        queue.add(ticket("restless"))
        served[queue.pop().caller.tenant] += 1
    assert abs(served["steady"] - served["restless"]) <= 1


def test_an_empty_queue_has_nobody() -> None:
    queue = filled()
    with pytest.raises(IndexError):
        queue.pop()
    gone = ticket()
    queue.add(gone)
    queue.remove(gone)
    queue.remove(gone)
    assert queue.count == 0
    with pytest.raises(IndexError):
        queue.pop()


def test_whoever_comes_and_goes_leaves_nothing_behind() -> None:
    queue = filled(ticket("there"))
    for number in range(5000):
        passing = ticket(f"passing-{number % 700}")
        queue.add(passing)
        queue.remove(passing)
    assert len(queue._turns._line) < 200
    assert len(queue._turns._known) < 200
    assert queue._lines.keys() == {"there"}
    assert queue.pop().caller.tenant == "there"


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from("abcde"),
        st.tuples(st.lists(st.integers(1, 100), min_size=40, max_size=40), st.sampled_from([0.5, 1.0, 2.0])),
        min_size=2,
    ),
    st.integers(10, 40),
)
def test_tenants_with_a_backlog_get_work_by_weight_within_the_largest_requests(
    work: dict[str, tuple[list[int], float]], turns: int
) -> None:
    """The bound of Sheng et al. (OSDI 2024, theorem 4.4), for what is known of each request beforehand."""
    queue = filled(*[ticket(tenant, tokens, weight) for tenant, (all_of, weight) in work.items() for tokens in all_of])
    given_tokens = dict.fromkeys(work, 0.0)
    for _ in range(turns):
        each = queue.pop()
        given_tokens[each.caller.tenant] += each.tokens / each.caller.weight
        largest = {tenant: max(all_of) / weight for tenant, (all_of, weight) in work.items()}
        for one, other in itertools.combinations(work, 2):
            assert abs(given_tokens[one] - given_tokens[other]) <= max(largest[one], largest[other]) + 1e-9


def test_how_many_are_ahead_counts_a_tenants_own_and_the_others_share() -> None:
    queue = filled(*[ticket("noisy") for _ in range(50)], ticket("quiet"))
    assert queue.ahead_of(caller("noisy")) == 51
    assert queue.ahead_of(caller("quiet")) == 1 + 2
    assert queue.ahead_of(caller("new")) == 1 + 1
    assert queue.ahead_of(caller("new", 0.5)) == 2 + 2, "at most: as if each of the others had enough for its share"
    assert queue.ahead_of(caller("new", 0.001)) == 51


# -- priorities ------------------------------------------------------------------------------------------------------


def test_a_higher_priority_is_always_before_a_lower() -> None:
    queue = Queue()
    for each in (low := ticket(priority=-5), high := ticket(priority=3), plain := ticket(), late := ticket(priority=3)):
        queue.add(each)
    assert [queue.pop() for _ in range(4)] == [high, late, plain, low]
    assert queue.count == 0


def test_those_of_a_higher_priority_are_ahead() -> None:
    queue = Queue()
    for priority in (5, 5, 0, -5):
        queue.add(ticket(priority=priority))
    assert [queue.ahead_of(caller("t"), priority) for priority in (9, 5, 0, -5, -9)] == [0, 2, 3, 4, 4]


def test_who_makes_room() -> None:
    queue = Queue()
    assert queue.to_make_room(caller("t"), 0) is None
    for each in (first := ticket("a"), second := ticket("a"), ticket("b")):
        queue.add(each)
    assert queue.to_make_room(caller("c"), 0) is second, "the newest of the one that has most"
    assert queue.to_make_room(caller("a"), 0) is None
    assert queue.to_make_room(caller("b"), 0) is None, "it would have as many as the other"
    assert queue.to_make_room(caller("c", 0.5), 0) is None, "by its weight it would have as many"
    assert queue.to_make_room(caller("c"), -1) is None, "those who are here come first"
    low = ticket("z", priority=-1)
    queue.add(low)
    assert queue.to_make_room(caller("a"), 0) is low
    assert first.caller.tenant == "a"


def test_deadlines_are_found_when_they_come() -> None:
    queue = Queue()
    for deadline_s in (5.0, 3.0, 9.0):
        queue.add(ticket(deadline_s=deadline_s))
    assert queue.overdue(2.9) == []
    for now_s, expected in ((3.0, [3.0]), (8.0, [5.0])):
        overdue = queue.overdue(now_s)
        assert [each.deadline_s for each in overdue] == expected
        for each in overdue:
            queue.remove(each)
    assert queue.earliest_s == 9.0


def _place(each: Ticket) -> tuple[str, int]:
    return each.caller.tenant, each.priority


class AnyOrder(RuleBasedStateMachine):
    """Whoever enters leaves exactly once; the highest priority is next, and in a tenant the oldest."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.there: list[Ticket] = []

    @rule(
        tenant=st.sampled_from("abc"),
        priority=st.sampled_from([-1, 0, 7]),
        tokens=st.integers(1, 50),
        weight=st.sampled_from([1.0, 1.0, 0.5]),
    )
    def enter(self, tenant: str, priority: int, tokens: int, weight: float) -> None:
        each = ticket(tenant, tokens, weight, priority)
        self.queue.add(each)
        self.there.append(each)

    @precondition(lambda self: self.there)
    @rule()
    def pop(self) -> None:
        each = self.queue.pop()
        assert each.priority == max(other.priority for other in self.there)
        mine = [other for other in self.there if _place(other) == _place(each)]
        assert each is mine[0]
        self.there.remove(each)

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        each = self.there.pop(data.draw(st.integers(0, len(self.there) - 1)))
        self.queue.remove(each)
        self.queue.remove(each)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert self.queue.count == len(self.there)
        assert {each.id for each in self.queue.tickets()} == {each.id for each in self.there}

    @invariant()
    def what_is_kept_is_what_would_be_counted(self) -> None:
        for priority in {each.priority for each in self.there}:
            level = self.queue._levels[priority]
            there = {name: (line.count, level._turns.weight_of(name)) for name, line in level._lines.items()}
            assert level.longest()[1] == max(count / weight for count, weight in there.values())
            assert level._turns.weight == sum(weight for _, weight in there.values())
            for name in "abcd":
                own = there.get(name, (0, 1.0))[0]
                exact = sum(min(count, (own + 1) * weight) for other, (count, weight) in there.items() if other != name)
                assert level.ahead_of(caller(name)) >= own + exact


TestAnyOrder = AnyOrder.TestCase

"""Which inputs go into the next batch, on a clock that the tests turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.torch.batch_queue import BatchQueue, Limits, Request


class Desk:
    """A queue whose requests are texts of one-letter inputs, and whose batches are shown as texts."""

    def __init__(self, **limits):
        self.queue = BatchQueue(Limits(**limits))
        self.now_s = 0.0

    def ask(self, letters, keys=None):
        request = Request(list(letters), self.now_s)
        self.queue.add(request, list(keys or [None] * len(letters)))
        return request

    def next(self):
        found = self.queue.next(self.now_s)
        return "".join(item.given for item in found) if isinstance(found, list) else found

    def all(self):
        batches = []
        while isinstance(batch := self.next(), str):
            batches.append(batch)
        return batches


def test_nothing_waits():
    assert Desk().next() is None


def test_one_that_waits_goes_at_once():
    desk = Desk()
    desk.ask("a")
    assert desk.all() == ["a"]
    assert desk.next() is None


def test_all_that_wait_go_together_up_to_the_size_of_a_batch():
    desk = Desk(batch_size=3)
    for letter in "abcde":
        desk.ask(letter)
    assert desk.all() == ["abc", "de"]


def test_a_large_request_fills_what_small_ones_leave():
    desk = Desk(batch_size=4)
    desk.ask("ABCDEFGHIJ")
    assert desk.next() == "ABCD"
    for letter in "xyz":
        desk.ask(letter)
    # They came after it, and do not wait for its end: each begins where its fourth input was.
    assert desk.next() == "xyzE"
    assert desk.all() == ["FGHI", "J"]


def test_two_large_requests_share_alike():
    desk = Desk(batch_size=2)
    desk.ask("ABC")
    desk.ask("xyz")
    assert desk.all() == ["Ax", "By", "Cz"]


def test_only_equal_keys_share_a_batch_and_the_one_that_came_first_goes_first():
    desk = Desk()
    desk.ask("abcd", keys=[1, 2, 1, 3])
    desk.ask("e", keys=[2])
    assert desk.all() == ["ac", "eb", "d"]


class TestDelay:
    def test_the_first_of_a_batch_waits_for_company(self):
        desk = Desk(batch_size=3, max_delay_s=0.5)
        desk.ask("a")
        assert desk.next() == 0.5
        desk.now_s = 0.25
        desk.ask("b")
        assert desk.next() == 0.5
        desk.now_s = 0.5
        assert desk.next() == "ab"

    def test_a_full_batch_goes_at_once(self):
        desk = Desk(batch_size=2, max_delay_s=9)
        desk.ask("abc")
        assert desk.next() == "ab"
        assert desk.next() == 9

    def test_what_is_left_of_an_old_request_has_waited_long_enough(self):
        desk = Desk(batch_size=2, max_delay_s=1)
        desk.ask("abc")
        assert desk.next() == "ab"
        desk.now_s = 1
        desk.ask("x")
        assert sorted(desk.next()) == ["c", "x"]

    def test_keys_wait_each_for_their_own(self):
        desk = Desk(batch_size=2, max_delay_s=1)
        desk.ask("a", keys=[1])
        desk.now_s = 0.5
        desk.ask("b", keys=[2])
        assert desk.next() == 1
        desk.now_s = 1
        assert desk.next() == "a"
        assert desk.next() == 1.5


class TestWithdrawn:
    def test_it_is_never_computed_and_counts_no_more(self):
        desk = Desk(batch_size=2)
        gone = desk.ask("abc")
        desk.ask("x")
        assert desk.next() == "ax"
        assert len(desk.queue) == 2
        desk.queue.withdraw(gone)
        assert len(desk.queue) == 0
        assert desk.next() is None

    def test_others_of_its_key_stay(self):
        desk = Desk(max_delay_s=1)
        gone = desk.ask("abc")
        desk.now_s = 0.5
        desk.ask("x")
        desk.queue.withdraw(gone)
        assert desk.next() == 1.5
        desk.now_s = 1.5
        assert desk.next() == "x"

    def test_twice_is_once(self):
        desk = Desk()
        gone = desk.ask("a")
        desk.ask("b")
        desk.queue.withdraw(gone)
        desk.queue.withdraw(gone)
        assert len(desk.queue) == 1


def test_room():
    desk = Desk(queue_size=3)
    assert desk.queue.has_room(100)  # an empty queue takes anything: nobody else is kept waiting
    desk.ask("ab")
    assert desk.queue.has_room(1)
    assert not desk.queue.has_room(2)


@given(
    st.lists(st.lists(st.sampled_from("pq"), min_size=1, max_size=6), min_size=1, max_size=12),
    st.integers(1, 5),
    st.sets(st.integers(0, 11)),
)
def test_everybody_gets_everything_once_in_order_and_nobody_who_has_left(requests, batch_size, leavers):
    queue = BatchQueue(Limits(batch_size=batch_size))
    made = []
    for keys in requests:
        request = Request(range(len(keys)), 0.0)
        queue.add(request, keys)
        made.append(request)
    for index in leavers:
        if index < len(made):
            queue.withdraw(made[index])
    served = []
    while batch := queue.next(0.0):
        assert isinstance(batch, list)
        assert 0 < len(batch) <= batch_size
        keys = {requests[made.index(item.request)][item.index] for item in batch}
        assert len(keys) == 1
        served += batch
    assert len(queue) == 0
    for number, (request, keys) in enumerate(zip(made, requests, strict=True)):
        own = [item.index for item in served if item.request is request]
        assert sorted(own) == ([] if number in leavers else list(range(len(keys))))
        for key in "pq":
            of_key = [index for index in own if keys[index] == key]
            assert of_key == sorted(of_key)


@pytest.mark.parametrize("large", [10, 1000])
def test_a_small_request_never_waits_for_more_than_one_batch_per_batch_of_its_own(large):
    """However much a large one has asked for before."""
    desk = Desk(batch_size=8)
    desk.ask("L" * large)
    desk.next()
    desk.ask("s")
    assert "s" in desk.next()

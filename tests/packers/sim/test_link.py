from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.sim.agenda import Agenda, Kind
from packers.sim.link import Link


def run(agenda: Agenda) -> None:
    while agenda.step():
        pass


def transfers(capacity: float, sends: list[tuple[float, float, float]]) -> list[float]:
    """When each (at, bytes, most bytes/s) has arrived."""
    agenda = Agenda()
    link = Link(agenda, capacity)
    done: dict[int, float] = {}

    def send(number: int, size: float, most: float) -> None:
        link.send(size, most, lambda: done.__setitem__(number, agenda.now_s))

    for number, (at_s, size, most) in enumerate(sends):
        agenda.at(at_s, Kind.TIMER, lambda n=number, s=size, m=most: send(n, s, m))  # type: ignore[misc]
    run(agenda)
    return [done[number] for number in range(len(sends))]


def test_alone_it_goes_as_fast_as_it_can() -> None:
    assert transfers(10, [(0, 100, 5)]) == [20]
    assert transfers(10, [(0, 100, 50)]) == [10]


def test_without_a_limit_nobody_slows_anybody() -> None:
    assert transfers(0, [(0, 100, 5), (0, 100, 10)]) == [20, 10]


def test_what_a_slow_one_leaves_goes_to_the_others() -> None:
    assert transfers(10, [(0, 20, 2), (0, 80, 100)]) == [10, 10]


def test_no_bytes_take_no_time_and_no_limit_at_all_works() -> None:
    assert transfers(10, [(3, 0, 5)]) == [3]
    assert transfers(0, [(3, 100, float("inf"))]) == [3]


def test_a_cancelled_one_leaves_its_share() -> None:
    agenda = Agenda()
    link = Link(agenda, 10)
    done = []
    other = link.send(100, 10, lambda: done.append(-1.0))
    link.send(100, 10, lambda: done.append(agenda.now_s))
    agenda.at(10, Kind.TIMER, lambda: link.cancel(other))
    run(agenda)
    assert done == [15]
    link.cancel(other)


@given(
    st.floats(1, 100),
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1000), st.floats(0.5, 50)), min_size=1, max_size=8),
)
def test_nobody_is_faster_than_alone_and_all_arrive(capacity: float, sends: list[tuple[float, float, float]]) -> None:
    ended = transfers(capacity, sends)
    for (at_s, size, most), end_s in zip(sends, ended, strict=True):
        assert end_s >= at_s + size / min(most, capacity) - 1e-6
    busy_s = max(ended) - min(at_s for at_s, _, _ in sends)
    assert sum(size for _, size, _ in sends) <= capacity * busy_s + 1e-3


def test_together_as_fast_as_the_link() -> None:
    assert max(transfers(10, [(0, 50, 80), (0, 70, 90), (0, 30, 70)])) == pytest.approx(15)

"""An engine's threads follow what it computes and who else computes, in virtual time."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.cores import crew as cores_crew
from models.runtimes.cores.board import LONGEST_S, SIZE_BYTES, Board, Seat
from models.runtimes.cores.crew import LOOK_EVERY_S, STAYS_BUSY_S, Crew, own_crew

CORES = 4


class Machine:
    """A board, a clock, and engines whose changes of threads are noted."""

    def __init__(self):
        self.now_s = 1000.0
        self.board = Board(mmap.mmap(-1, SIZE_BYTES))

    def engine(self):
        changes: list[int] = []
        return Crew(Seat(self.board), CORES, changes.append, lambda: self.now_s), changes

    def step(self, crew, want, took_s=0.01):
        with crew.step(want):
            self.now_s += took_s
        return crew.threads


@pytest.fixture
def machine():
    return Machine()


def test_alone_it_has_what_it_wants_and_never_more_than_there_is(machine):
    crew, changes = machine.engine()
    assert [machine.step(crew, want) for want in (1, 2, 2, 9, 1)] == [1, 2, 2, 4, 1]
    assert changes == [1, 2, 4, 1]


def test_nothing_is_set_while_nothing_changes(machine):
    crew, changes = machine.engine()
    for _ in range(100):
        machine.step(crew, 2)
    assert changes == [2]


def test_two_share_and_who_is_left_alone_has_all_again(machine):
    (first, _), (second, _) = machine.engine(), machine.engine()
    machine.step(first, 4)
    assert machine.step(second, 4) == 2
    assert machine.step(first, 4) == 2
    machine.now_s += 1.01 * STAYS_BUSY_S
    assert machine.step(second, 4) == 4


def test_a_pause_between_two_steps_gives_nothing_away(machine):
    (first, _), (second, changes) = machine.engine(), machine.engine()
    machine.step(first, 4)
    for _ in range(10):
        machine.step(second, 4, took_s=STAYS_BUSY_S / 4)
        machine.now_s += STAYS_BUSY_S / 4
        machine.step(first, 4, took_s=STAYS_BUSY_S / 4)
    assert changes == [2]


def test_a_long_step_counts_while_it_lasts(machine):
    (first, _), (second, _) = machine.engine(), machine.engine()
    with first.step(4):
        machine.now_s += LONGEST_S / 2
        assert machine.step(second, 4) == 2
        machine.now_s += LONGEST_S
        assert machine.step(second, 4) == 4  # for all that can be known it was killed


def test_it_looks_at_the_others_now_and_then_and_whenever_it_wants_something_else(machine):
    (first, changes), (second, _) = machine.engine(), machine.engine()
    machine.step(first, 4, took_s=0.0)
    machine.step(second, 4, took_s=0.0)
    machine.step(first, 4, took_s=0.0)
    assert changes == [4]
    machine.now_s += LOOK_EVERY_S
    machine.step(first, 4, took_s=0.0)
    assert changes == [4, 2]
    machine.step(first, 3, took_s=0.0)
    machine.step(first, 1, took_s=0.0)
    assert changes == [4, 2, 1]


def test_a_part_of_a_step_can_have_all_that_the_step_wants(machine):
    (first, changes), (second, _) = machine.engine(), machine.engine()
    machine.step(second, 4)
    with first.step(9):
        with first.whole():
            assert changes == [2, 4]
        assert changes == [2, 4, 2]
        with pytest.raises(ValueError, match="broken"), first.whole():
            raise ValueError("broken")
        assert changes[-1] == first.threads == 2
    machine.now_s += 2 * STAYS_BUSY_S
    del changes[:]
    with first.step(3), first.whole():
        pass
    assert changes == [3], "it has what it wants"


def test_a_step_that_raises_is_over(machine):
    (first, _), (second, _) = machine.engine(), machine.engine()
    with pytest.raises(ValueError, match="broken"), first.step(4):
        raise ValueError("broken")
    machine.now_s += 2 * STAYS_BUSY_S
    assert machine.step(second, 4) == 4


def test_without_a_seat_it_computes_alone(machine):
    for index in range(len(machine.board.until_s)):
        machine.board.until_s[index] = machine.now_s + 1
    crew, _ = machine.engine()
    assert machine.step(crew, 4) == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.floats(0.0, 0.05)), max_size=60))
def test_engines_that_all_compute_never_crowd_the_machine_for_longer_than_a_look(steps):
    machine = Machine()
    crews = [machine.engine()[0] for _ in range(6)]
    for which, want, took_s in steps:
        machine.step(crews[which], want, took_s)
    for _ in range(2):  # all of them at once, and each looks
        machine.now_s += LOOK_EVERY_S
        for crew in crews:
            machine.step(crew, 4, took_s=0.0)
    assert sum(crew.threads for crew in crews) == len(crews)


def test_the_operators_number_of_threads_is_obeyed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert own_crew() is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(cores_crew, "usable_cores", lambda: 1)
    crew = own_crew()
    assert crew is not None
    with crew.step(5):
        assert crew.threads == 1

"""Engines see what the others want, for as long as those live; across real processes, as a launcher forks them."""

from __future__ import annotations

import mmap
import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.cores import board as cores_board
from models.runtimes.cores.board import LEFT_S, LONGEST_S, SEATS, SIZE_BYTES, Board, Seat

NOW_S = 1000.0


@pytest.fixture
def board():
    return Board(mmap.mmap(-1, SIZE_BYTES))


@pytest.fixture
def children():
    """Forks children that run what they are given and wait to be killed; ends what is left of them."""
    pids = []

    def fork(action):
        said, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                action()
                os.write(say, b".")
                signal.pause()
            finally:
                os._exit(1)
        pids.append(pid)
        os.close(say)
        assert os.read(said, 1) == b"."
        os.close(said)
        return pid

    yield fork
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_each_sees_the_others_and_not_itself(board):
    first, second = Seat(board), Seat(board)
    assert first.say(2, NOW_S, NOW_S + 1)
    assert second.say(3, NOW_S, NOW_S + 1)
    assert (first.others(NOW_S), second.others(NOW_S)) == ([3], [2])


def test_what_is_not_renewed_ends_by_itself(board):
    first, second = Seat(board), Seat(board)
    first.say(2, NOW_S, NOW_S + 1)
    assert second.others(NOW_S + 1) == [2]
    assert second.others(NOW_S + 1.01) == []


def test_a_seat_that_was_left_is_anothers_and_who_comes_back_takes_a_new_one(board):
    first, second = Seat(board), Seat(board)
    first.say(2, NOW_S, NOW_S + 1)
    second.say(3, NOW_S + 1 + LEFT_S + 0.1, NOW_S + 5)
    assert list(board.until_s).count(0.0) == SEATS - 1
    first.say(4, NOW_S + 3, NOW_S + 5)
    assert (first.others(NOW_S + 3), second.others(NOW_S + 3)) == ([3], [4])


def test_two_that_have_taken_one_seat_part_at_the_next_look(board):
    first, second = Seat(board), Seat(board)
    first.say(2, NOW_S, NOW_S + 1)
    second._index = first._index  # both saw that it was free
    board.owners[first._index] = second._owner
    second.say(3, NOW_S, NOW_S + 1)
    first.say(2, NOW_S, NOW_S + 1)
    assert (first.others(NOW_S), second.others(NOW_S)) == ([3], [2])


def test_when_all_seats_are_taken_one_is_told_so(board):
    seats = [Seat(board) for _ in range(SEATS)]
    assert all(seat.say(1, NOW_S, NOW_S + 1) for seat in seats)
    late = Seat(board)
    assert not late.say(1, NOW_S, NOW_S + 1)
    assert len(late.others(NOW_S)) == SEATS
    assert late.say(1, NOW_S + 3, NOW_S + 4)


@given(st.lists(st.floats(allow_nan=True), min_size=SEATS, max_size=SEATS))
def test_whatever_is_written_there_counts_for_a_few_seconds_at_most(times):
    board = Board(mmap.mmap(-1, SIZE_BYTES))
    for index, at_s in enumerate(times):
        board.until_s[index] = at_s
    assert len(Seat(board).others(NOW_S)) == sum(NOW_S <= at_s < NOW_S + LONGEST_S + LEFT_S for at_s in times)


def test_forked_engines_have_one_board_also_of_two_generations(monkeypatch, children):
    """The launcher makes it, each warm process joins it, and what they fork has it."""
    monkeypatch.setattr(cores_board, "_joined", [])
    descriptor = cores_board.make()

    def engine(want):
        now_s = time.monotonic()
        assert Seat(cores_board.joined()).say(want, now_s, now_s + LONGEST_S)

    cores_board.join(descriptor)
    children(lambda: engine(3))
    cores_board.join(descriptor)  # as the next warm process does
    os.close(descriptor)
    killed = children(lambda: engine(5))
    own, now_s = Seat(cores_board.joined()), time.monotonic()
    own.say(1, now_s, now_s + LONGEST_S)
    assert sorted(own.others(now_s)) == [3, 5]
    os.kill(killed, signal.SIGKILL)
    assert own.others(now_s + LONGEST_S) == []


def test_many_processes_that_sit_down_at_once_are_all_seen(monkeypatch, children):
    monkeypatch.setattr(cores_board, "_joined", [Board(mmap.mmap(-1, SIZE_BYTES))])
    begin_s = time.monotonic() + 0.2

    def engine():
        seat = Seat(cores_board.joined())
        while time.monotonic() < begin_s:
            pass
        for _ in range(1000):
            now_s = time.monotonic()
            seat.say(1, now_s, now_s + LONGEST_S)

    def several():
        for _ in range(7):
            if os.fork() == 0:
                engine()
                os._exit(0)
        engine()
        for _ in range(7):
            os.wait()

    children(several)
    assert Seat(cores_board.joined()).others(time.monotonic()) == [1] * 8


def test_without_a_launcher_an_engine_is_alone(monkeypatch):
    monkeypatch.setattr(cores_board, "_joined", [])
    first, second = Seat(cores_board.joined()), Seat(cores_board.joined())
    first.say(2, NOW_S, NOW_S + 1)
    assert second.others(NOW_S) == []

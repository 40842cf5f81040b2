"""Code that is not ours is called, and whatever it does becomes an exception or a sentence."""

from __future__ import annotations

import asyncio
import logging
import mmap
import pickle
import sys
import threading
import time

import pytest

from models.runtimes.cores import openmp
from models.runtimes.cores.board import LONGEST_S, SIZE_BYTES, Board, Seat
from models.runtimes.cores.crew import LOOK_EVERY_S, Crew
from models.runtimes.torch.contained import (
    LONGEST_SENTENCE,
    ModelDefect,
    close_quietly,
    contained,
    in_one_line,
    pieces_of,
    stack_of,
)
from models.runtimes.torch.model_thread import Hang, call_model, model_thread

pytestmark = pytest.mark.anyio


@pytest.fixture
def thread():
    made = model_thread()
    yield made
    made.shutdown(wait=False)


async def test_a_result_and_a_failure(thread):
    assert await call_model(thread, "Model.predict", 5, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await call_model(thread, "Model.predict", 5, divmod, 7, 0)


async def test_it_runs_in_the_models_thread(thread):
    names = {await call_model(thread, "x", 0, lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"model_0"}


async def test_each_call_takes_its_share_of_the_cores():
    """All of them while nobody else computes."""
    board = Board(mmap.mmap(-1, SIZE_BYTES))
    crew, other = Crew(Seat(board), 4, openmp.set_threads), Seat(board)
    thread = model_thread(crew=crew)
    try:
        assert await call_model(thread, "Model.load", 5, openmp.threads) == 4
        now_s = time.monotonic()
        other.say(4, now_s, now_s + LONGEST_S)
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert await call_model(thread, "Model.predict", 5, openmp.threads) == 2
        with pytest.raises(ZeroDivisionError):
            await call_model(thread, "Model.predict", 5, divmod, 7, 0)
    finally:
        thread.shutdown()
    assert max(board.until_s) == now_s + LONGEST_S  # its own call is over


async def test_a_hang_is_told_and_its_place_is_in_the_log(thread, caplog):
    release = threading.Event()

    def wait_for_something_that_never_comes():
        release.wait()

    logging.getLogger("roundhouse").propagate = True
    try:
        with caplog.at_level(logging.ERROR), pytest.raises(Hang) as told:
            await call_model(thread, "Model.predict", 0.05, wait_for_something_that_never_comes)
    finally:
        release.set()
    assert (str(told.value), told.value.fault) == ("Model.predict has not returned for 0.05 s", "hang")
    assert "in wait_for_something_that_never_comes" in caplog.text
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)


@pytest.mark.parametrize("problem", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), StopIteration()])
async def test_what_would_end_more_than_the_call_is_a_defect(thread, problem):
    def raising():
        raise problem

    with pytest.raises(ModelDefect, match=f"the model's class raised {type(problem).__name__}"):
        await call_model(thread, "x", 5, raising)
    assert await call_model(thread, "x", 5, len, "alive") == 5


def test_sys_exit_in_this_thread():
    with pytest.raises(ModelDefect):
        contained(sys.exit, 1)


def test_what_a_problem_says_in_one_line():
    assert in_one_line(ValueError("  first\nsecond")) == "first"
    assert in_one_line(ValueError()) == "ValueError"
    long = in_one_line(ValueError("x" * 1000))
    assert len(long) == LONGEST_SENTENCE
    assert long.endswith("...")


def test_pieces_one_at_a_time():
    iterator = iter("ab")
    assert [pieces_of(iterator) for _ in range(3)] == [(True, "a"), (True, "b"), (False, None)]


def test_closing_what_may_have_no_close():
    closed = []

    def generator():
        try:
            yield 1
        finally:
            closed.append(True)

    begun = generator()
    next(begun)
    close_quietly(begun)
    close_quietly(iter([1]))
    assert closed == [True]


def test_the_stack_of_no_thread():
    assert stack_of(0) == ""


def test_asyncio_survives(thread):
    async def story():
        with pytest.raises(ModelDefect):
            await call_model(thread, "x", 5, sys.exit)
        return "alive"

    assert asyncio.run(story()) == "alive"

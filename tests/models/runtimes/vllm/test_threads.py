"""A real engine's threads follow what it computes and what other engines of its launcher compute."""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.runtimes.cores import crew as cores_crew
from models.runtimes.cores import openmp
from models.runtimes.cores.board import LONGEST_S, SIZE_BYTES, Board, Seat
from models.runtimes.cores.machine import usable_cores
from models.runtimes.cores.policy import THREAD_BYTES
from models.runtimes.vllm.threads import share_cores
from tests.models.runtimes.conftest import demo_model
from tests.models.runtimes.started import engine

pytestmark = pytest.mark.anyio

LONG = 1000  # tokens of a prompt that is worth several threads even to a small model
MOST_WANTED = 1 << 10


@pytest.fixture
def running(vllm_launcher):
    return vllm_launcher


def board_of(running):
    """The board that the launcher has made."""
    for link in Path(f"/proc/{running.process.pid}/fd").iterdir():
        if "roundhouse-cores" in os.readlink(link):
            with link.open("r+b") as file:
                return Board(mmap.mmap(file.fileno(), SIZE_BYTES))
    raise AssertionError("the launcher has no board")


def run_ns(one):
    """Processor time of each of the engine's threads."""
    tasks = Path(f"/proc/{one.pid}/task").iterdir()
    return {task.name: int((task / "schedstat").read_text().split()[0]) for task in tasks}


async def computing(one, token):
    """How many threads compute a long prompt of that token: those that work about as much as the busiest."""
    before = run_ns(one)
    body = {"model": "some-model", "prompt": [token] * LONG, "max_tokens": 1}
    assert (await one.answer("/v1/completions", body))["usage"]["prompt_tokens"] == LONG
    took_ns = [after_ns - before.get(thread, 0) for thread, after_ns in run_ns(one).items()]
    return sum(thread_ns > max(took_ns) / 3 for thread_ns in took_ns)


async def test_an_engine_takes_the_cores_that_others_leave(running):
    async with engine(running, demo_model(running, "tiny-llama"), repack=False) as one:
        others = [Seat(board_of(running)) for _ in range(usable_cores())]
        await computing(one, 9)
        alone = await computing(one, 10)
        now_s = time.monotonic()
        assert all(other.say(MOST_WANTED, now_s, now_s + LONGEST_S) for other in others)
        crowded = await computing(one, 11)
        assert all(other.say(1, time.monotonic(), 0.0) for other in others)
        again = await computing(one, 12)
    assert crowded == 1
    assert min(alone, again) >= min(2, usable_cores())


async def test_what_is_first_computed_in_a_crowd_is_no_slower_for_it_later(running, tmp_path):
    """oneDNN compiles a multiplication for the threads that there are when it first meets it."""
    async with engine(running, demo_model(running, "tiny-llama"), layout_dir=tmp_path, repack=True) as one:
        async with asyncio.timeout(60):
            while (await one.connection.call("status")).detail["weights"] != "packed":
                await asyncio.sleep(0.05)
        others = [Seat(board_of(running)) for _ in range(usable_cores())]
        now_s = time.monotonic()
        assert all(other.say(MOST_WANTED, now_s, now_s + LONGEST_S) for other in others)
        await computing(one, 9)
        crowded = await computing(one, 10)
        assert all(other.say(1, time.monotonic(), 0.0) for other in others)
        alone = max([await computing(one, token) for token in (11, 12)])
    assert crowded == 1
    assert alone >= min(2, usable_cores())


async def test_engines_of_one_launcher_are_on_its_board(running):
    board = board_of(running)
    async with engine(running, demo_model(running, "tiny-llama"), repack=False) as one:
        before = sorted(board.until_s)
        await one.tell(4)
        assert sorted(board.until_s) != before
        assert one.pid in {owner >> 20 for owner in board.owners}


class Executor:
    """Notes with how many threads it computes."""

    def __init__(self):
        self.steps = []

    def execute_model(self, scheduler_output, non_block=False):
        self.steps.append((openmp.threads(), non_block))
        return scheduler_output.total_num_scheduled_tokens


def computed(weights_bytes, *tokens):
    core = SimpleNamespace(model_executor=Executor())
    share_cores(core, weights_bytes)
    before = openmp.threads()
    try:
        for count in tokens:
            output = SimpleNamespace(total_num_scheduled_tokens=count)
            assert core.model_executor.execute_model(output, non_block=True) == count
    finally:
        openmp.set_threads(before)
    return core.model_executor.steps


def test_each_step_is_computed_by_the_threads_it_is_worth(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores_crew, "usable_cores", lambda: 3)
    assert computed(THREAD_BYTES, 1, 16, 1, 4096) == [(1, True), (2, True), (1, True), (3, True)]


def test_where_the_operator_has_chosen_nothing_is_touched(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = openmp.threads()
    assert computed(THREAD_BYTES, 1, 4096) == [(before, True)] * 2

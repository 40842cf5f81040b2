"""Requests share batches, and nobody waits for company."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.batcher import Batcher

pytestmark = pytest.mark.anyio


class Model:
    """Doubles numbers; may be held up to let others arrive."""

    def __init__(self):
        self.batches = []
        self.threads = set()
        self.go_on = threading.Event()
        self.go_on.set()

    def predict(self, inputs):
        self.threads.add(threading.current_thread().name)
        self.batches.append(list(inputs))
        assert self.go_on.wait(10)
        if "bad" in inputs:
            raise ValueError("bad input")
        return [item * 2 for item in inputs]


@pytest.fixture
def thread():
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="model") as made:
        yield made


async def started(model, count):
    """Wait until ``count`` batches have begun."""
    while len(model.batches) < count:
        await asyncio.sleep(0.001)


async def test_an_idle_model_begins_at_once(thread):
    model = Model()
    assert await Batcher(model.predict, thread).outputs([1, 2]) == [2, 4]
    assert model.batches == [[1, 2]]


async def test_those_that_come_while_it_is_busy_go_together(thread):
    model = Model()
    model.go_on.clear()
    batcher = Batcher(model.predict, thread)
    first = asyncio.create_task(batcher.outputs([1]))
    await started(model, 1)
    rest = [asyncio.create_task(batcher.outputs([number, -number])) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    model.go_on.set()
    assert await first == [2]
    assert [await task for task in rest] == [[4, -4], [6, -6], [8, -8]]
    assert model.batches == [[1], [2, -2, 3, -3, 4, -4]]


async def test_a_batch_is_not_larger_than_allowed_unless_one_request_is(thread):
    model = Model()
    model.go_on.clear()
    batcher = Batcher(model.predict, thread, most_inputs=3)
    asked = [[1], [2, 3], [4, 5], [6], [7, 8, 9, 10, 11]]
    tasks = [asyncio.create_task(batcher.outputs(inputs)) for inputs in asked]
    await asyncio.sleep(0)
    model.go_on.set()
    assert [await task for task in tasks] == [[item * 2 for item in inputs] for inputs in asked]
    assert model.batches == [[1, 2, 3], [4, 5, 6], [7, 8, 9, 10, 11]]


async def test_a_failure_reaches_those_of_its_batch_and_the_next_batch_is_computed(thread):
    model = Model()
    model.go_on.clear()
    batcher = Batcher(model.predict, thread, most_inputs=2)
    tasks = [asyncio.create_task(batcher.outputs([item])) for item in ("bad", "a", "b")]
    await asyncio.sleep(0)
    model.go_on.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError, list]
    assert outcomes[2] == ["bb"]


async def test_a_model_that_loses_an_output_is_found_out(thread):
    with pytest.raises(ValueError, match="1 outputs for 2 inputs"):
        await Batcher(lambda inputs: inputs[:1], thread).outputs([1, 2])


async def test_a_client_that_is_gone_costs_nothing(thread):
    model = Model()
    model.go_on.clear()
    batcher = Batcher(model.predict, thread)
    first = asyncio.create_task(batcher.outputs([1]))
    await started(model, 1)
    gone = asyncio.create_task(batcher.outputs([2]))
    stays = asyncio.create_task(batcher.outputs([3]))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    model.go_on.set()
    assert (await first, await stays) == ([2], [6])
    assert model.batches == [[1], [3]]


async def test_all_is_computed_in_the_models_own_thread(thread):
    model = Model()
    batcher = Batcher(model.predict, thread)
    for number in range(3):
        await batcher.outputs([number])
    assert model.threads == {"model_0"}


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=5), min_size=1, max_size=20), st.integers(1, 8))
def test_everybody_gets_their_own_outputs_in_order(requests, most_inputs):
    async def ask_all():
        with ThreadPoolExecutor(max_workers=1) as thread:
            batcher = Batcher(lambda inputs: [-item for item in inputs], thread, most_inputs)
            return await asyncio.gather(*(batcher.outputs(inputs) for inputs in requests))

    assert asyncio.run(ask_all()) == [[-item for item in inputs] for inputs in requests]

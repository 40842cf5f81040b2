"""Model classes that misbehave, in real processes of a real launcher: each is told in one sentence and is gone after
it, or goes on, and the others never notice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from pathlib import Path

import pytest

from models.runtimes.protocol import EngineError
from tests.models.runtimes.http_calls import call, stream
from tests.models.runtimes.launchers import is_alive, until_gone
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio

CLASSES = "tests.models.runtimes.bad_classes.models"

_numbers = itertools.count(1)


@pytest.fixture
def running(torch_launcher):
    return torch_launcher


class Started:
    def __init__(self, connection):
        self.connection = connection
        self.order = connection.status.order
        self.pid = connection.status.pid

    async def predict(self, inputs):
        return await call(self.order.http_path, f"/v1/predict/{self.order.model_id}", {"inputs": inputs})

    async def output(self, inputs):
        status, answer = await self.predict(inputs)
        assert status == 200, answer
        return answer["outputs" if isinstance(inputs, list) else "output"]

    async def message(self, inputs):
        status, answer = await self.predict(inputs)
        return status, answer["error"]["message"]

    @property
    def log(self):
        return Path(self.order.log_path).read_text()


@contextlib.asynccontextmanager
async def engine(running, name, **engine_args):
    await running.ready()
    ordered = order(
        running.folder,
        f"r{next(_numbers)}",
        source=running.folder,
        runtime="torch",
        model_id="m",
        python_class=f"{CLASSES}:{name}",
        **engine_args,
    )
    connection = await running.start(ordered)
    try:
        yield Started(connection)
    finally:
        with contextlib.suppress(EngineError):
            await connection.call("stop")
        await connection.closed.wait()
        await connection.close()


async def refused(running, name, **engine_args):
    """Why an engine with the class does not start; its process is gone by then."""
    with pytest.raises(EngineError) as told:
        async with engine(running, name, **engine_args):
            pass
    assert "\n" not in str(told.value)
    return told.value


async def test_inputs_are_served_in_batches_and_in_pieces(running):
    async with engine(running, "Good") as one:
        assert await one.output([1, "two", {"three": 3}]) == [1, "two", {"three": 3}]
        body = {"inputs": ["abc"], "stream": True}
        events = [event async for event in stream(one.order.http_path, "/v1/predict/m", body)]
        assert [event["output"] for event in events] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "said", "fault"),
    [
        ("InitRaises", "InitRaises could not be made: not today", "code"),
        ("Nothing", f"engine_args.python_class: {CLASSES} has no Nothing", "code"),
        ("LoadHangs", "LoadHangs.load has not returned for 0.3 s", "hang"),
    ],
)
async def test_a_class_that_does_not_load(running, name, said, fault):
    problem = await refused(running, name, load_timeout=0.3)
    assert (str(problem), problem.fault) == (said, fault)


async def test_a_class_that_dies_while_it_loads(running):
    problem = await refused(running, "LoadDies")
    assert "was killed by signal 11" in str(problem)


async def test_a_raising_predict_hurts_nobody_else(running):
    async with engine(running, "Told") as one:
        outcomes = await asyncio.gather(*(one.predict(item) for item in ("a", "raise", "b", "c")))
        assert [status for status, _ in outcomes] == [200, 500, 200, 200]
        assert outcomes[1][1]["error"]["message"] == "the model failed on this input"
        assert "upside down" in one.log  # where its owner finds it
        assert await one.output("after") == "after"


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("Told", "exit", "the model's class raised SystemExit"),
        ("Miscounts", "x", "Miscounts.predict returned 2 outputs for 1 inputs"),
    ],
)
async def test_what_predict_may_not_do_is_told_and_it_goes_on(running, name, given, said):
    async with engine(running, name) as one:
        assert await one.message(given) == (500, said)
        assert is_alive(one.pid)


@pytest.mark.parametrize("how", ["hang", "spin"])
async def test_a_predict_that_hangs_ends_the_engine(running, how):
    async with engine(running, "Told", predict_timeout=0.5) as one:
        status, answer = await one.predict(how)
        assert (status, answer["error"]["code"]) == (503, "engine_broken")
        await asyncio.wait_for(one.connection.closed.wait(), 20)
        status = one.connection.status
        assert (status.state, status.fault) == ("failed", "hang")
        assert status.error == "Told.predict has not returned for 0.5 s"
        assert "in do" in one.log  # where it hangs
        await asyncio.wait_for(until_gone(one.pid), 20)


@pytest.mark.parametrize(
    ("how", "said"), [("_exit", "ended with code 7"), ("abort", "was killed by signal 6 (Aborted)")]
)
async def test_a_predict_that_ends_the_process(running, how, said):
    async with engine(running, "Good") as other, engine(running, "Told") as one:
        with contextlib.suppress(Exception):
            await one.predict(how)
        await asyncio.wait_for(one.connection.closed.wait(), 20)
        assert said in one.connection.end_reason()
        assert await other.output("still here") == "still here"


async def test_a_leak_is_found_and_the_engine_ended(running):
    async with engine(running, "Told") as one:
        assert await one.output("leak") == "leak"
        await asyncio.wait_for(one.connection.closed.wait(), 30)
        status = one.connection.status
        assert (status.state, status.fault) == ("failed", "memory")
        assert "it leaks, or its budget is too small" in status.error


async def test_what_it_prints_is_in_its_log(running):
    async with engine(running, "Told") as one:
        await one.output("print")
        assert "a line on standard output" in one.log
        assert "a line on standard error" in one.log


@pytest.mark.parametrize("name", ["Threads", "BlocksSignals"])
async def test_a_class_that_will_not_let_go_is_stopped_like_any_other(running, name):
    async with engine(running, name) as one:
        await one.output("x")
        pid = one.pid
        await one.connection.call("stop")
        await asyncio.wait_for(until_gone(pid), 20)


async def test_a_class_that_computes_on_does_not_keep_it_from_sleeping(running):
    async with engine(running, "Told") as one:
        slow = asyncio.create_task(one.predict("slow"))
        await asyncio.sleep(0.05)
        asleep = await one.connection.call("sleep")
        assert asleep.state == "asleep"
        assert (await slow)[0] == 200
        assert (await one.predict("x"))[0] == 503
        await one.connection.call("wake")
        assert await one.output("x") == "x"


async def test_a_client_that_leaves_is_not_computed_for(running):
    async with engine(running, "Told", max_batch=1) as one:
        slow = asyncio.create_task(one.predict("slow"))
        await asyncio.sleep(0.05)
        leaving = asyncio.create_task(one.predict("_exit"))  # would end the engine
        await asyncio.sleep(0.1)
        leaving.cancel()
        await slow
        await asyncio.sleep(0.1)
        assert await one.output("x") == "x"


async def test_how_it_runs_is_told(running):
    async with engine(running, "Good") as one:
        status = one.connection.status
        assert status.detail == {
            "path": "fast",
            "weights": "copied",
            "process": "own",
            "task": "predict",
            "class": "Good",
        }
        assert status.measured is not None
        assert status.measured.rss_bytes < 150 << 20
        assert os.path.exists(status.order.http_path)

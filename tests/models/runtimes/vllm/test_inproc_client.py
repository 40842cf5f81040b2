"""vLLM's engine core in a thread, with a core that computes nothing."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.engine import core as vllm_core
from vllm.v1.engine.exceptions import EngineDeadError

from models.runtimes.vllm.inproc_client import InprocAsyncClient

pytestmark = pytest.mark.anyio


class Core:
    """Each request gives one token a step, as many as its name has letters."""

    def __init__(self, vllm_config, executor_class, log_stats):
        if vllm_config == "broken":
            raise ValueError("no weights")
        self.left: dict[str, int] = {}
        self.aborted = []
        self.batch_queue = None
        self.thread = threading.current_thread().name
        self.scheduler = SimpleNamespace(has_requests=lambda: bool(self.left))
        self.step_fn = self.step

    def preprocess_add_request(self, request):
        if request.request_id == "invalid":
            raise ValueError("a grammar that cannot be compiled")
        return request, 0

    def add_request(self, request, wave):
        self.left[request.request_id] = len(request.request_id)

    def abort_requests(self, request_ids):
        self.aborted += request_ids
        for request_id in request_ids:
            self.left.pop(request_id, None)

    def step(self):
        if "fatal" in self.left:
            raise RuntimeError("the device is gone")
        if set(self.left) == {"waits"}:
            return None, False
        outputs = []
        for request_id in list(self.left):
            self.left[request_id] -= 1
            done = self.left[request_id] == 0
            outputs.append(EngineCoreOutput(request_id, [1], finish_reason=FinishReason.STOP if done else None))
            if done:
                del self.left[request_id]
        return {0: EngineCoreOutputs(outputs=outputs)}, True

    def post_step(self, model_executed):
        pass

    def get_supported_tasks(self):
        return ("generate", self.thread)

    def sleep(self, level, mode):
        raise RuntimeError("it cannot sleep")

    def collective_rpc(self, method, timeout, args, kwargs):
        return [method, timeout, args, kwargs]


@pytest.fixture
def core(monkeypatch):
    monkeypatch.setattr(vllm_core, "EngineCore", Core)


@pytest.fixture
def client(core):
    made = InprocAsyncClient("config", None, False)
    yield made
    made.shutdown(5)


def request(name):
    return SimpleNamespace(request_id=name, client_index=None)


async def outputs_of(client, name):
    """Tokens and finish reason of one request."""
    tokens = 0
    while True:
        for output in (await asyncio.wait_for(client.get_output_async(), 5)).outputs:
            if output.request_id == name:
                tokens += len(output.new_token_ids)
                if output.finish_reason is not None:
                    return tokens, output.finish_reason


async def test_a_request_is_computed_to_its_end(client):
    await client.add_request_async(request("abc"))
    assert await outputs_of(client, "abc") == (3, FinishReason.STOP)


async def test_the_engine_lives_in_one_thread_of_its_own(client):
    assert await client.get_supported_tasks_async() == ("generate", "engine-core")


async def test_an_aborted_request_leaves_the_engine(client):
    await client.add_request_async(request("waits"))
    await client.abort_requests_async(["waits"])
    await client.abort_requests_async([])
    await client.get_supported_tasks_async()
    assert client.core.aborted == ["waits"]
    assert not client.core.left


async def test_a_request_that_cannot_be_taken_ends_with_an_error_and_the_others_go_on(client):
    await client.add_request_async(request("invalid"))
    assert await outputs_of(client, "invalid") == (0, FinishReason.ERROR)
    await client.add_request_async(request("ab"))
    assert await outputs_of(client, "ab") == (2, FinishReason.STOP)
    assert not client.resources.engine_dead


async def test_what_a_method_raises_reaches_who_called_it(client):
    with pytest.raises(RuntimeError, match="it cannot sleep"):
        await client.sleep_async(1, "abort")
    assert (await client.get_supported_tasks_async())[0] == "generate"


async def test_a_caller_that_gave_up_is_no_harm(client):
    waiting = asyncio.create_task(client.get_supported_tasks_async())
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await client.get_supported_tasks_async())[0] == "generate"


async def test_the_workers_are_called_as_vllm_calls_them(client):
    assert await client.collective_rpc_async("f", args=(1,)) == ["f", None, (1,), None]


async def test_requests_that_cannot_run_yet_do_not_block_the_queue(client):
    await client.add_request_async(request("waits"))
    assert (await asyncio.wait_for(client.get_supported_tasks_async(), 5))[0] == "generate"


async def test_a_step_that_breaks_kills_the_engine_audibly(client):
    await client.add_request_async(request("fatal"))
    with pytest.raises(EngineDeadError):
        await asyncio.wait_for(client.get_output_async(), 5)
    assert client.resources.engine_dead
    assert client.died.wait(5)
    assert str(client.death) == "the device is gone"


async def test_a_question_leaves_no_trace(client):
    answer = await client.ask(request("abcd"), 64)
    assert sum(len(output.new_token_ids) for output in answer) == 4
    assert answer[-1].finish_reason is FinishReason.STOP
    await client.add_request_async(request("x"))
    assert [output.request_id for output in (await client.get_output_async()).outputs] == ["x"]


async def test_a_question_does_not_hold_up_others(client):
    await client.add_request_async(request("abc"))
    assert len(await client.ask(request("defghijk"), 64)) == 8
    assert await outputs_of(client, "abc") == (3, FinishReason.STOP)


async def test_a_question_without_an_answer_is_given_up(client):
    assert len(await client.ask(request("abcd"), 2)) == 2
    await client.get_supported_tasks_async()
    assert client.core.aborted == ["abcd"]
    assert not client.core.left


async def test_a_question_that_cannot_be_taken_is_whoever_askeds_problem(client):
    with pytest.raises(ValueError, match="a grammar"):
        await client.ask(request("invalid"), 64)
    assert not client.resources.engine_dead


async def test_work_is_done_between_steps_in_the_engines_thread(client):
    assert await client.run(lambda core: (core.thread, threading.current_thread().name)) == (
        "engine-core",
        "engine-core",
    )


def test_what_building_raises_is_raised_here(core):
    with pytest.raises(ValueError, match="no weights"):
        InprocAsyncClient("broken", None, False)


def test_a_name_that_is_no_call_is_no_attribute(client):
    with pytest.raises(AttributeError):
        _ = client.nonsense


async def test_shutdown_ends_the_thread(client):
    client.shutdown(5)
    assert not any(thread.name == "engine-core" and thread is client._thread for thread in threading.enumerate())

"""Private copies of matrices, made while an engine serves."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from torch import nn

from models.runtimes.vllm import linear as vllm_linear
from models.runtimes.vllm import repack as vllm_repack
from models.runtimes.vllm.linear import SharedLinear, TwofoldLinear, pack, plain_linear
from models.runtimes.vllm.repack import Repacker
from models.runtimes.vllm.weights import LoadedWeights

pytestmark = pytest.mark.anyio

PACKS = vllm_linear.kernels() == "packed-bf16"
SHAPES = {"qkv": (96, 64), "down": (64, 128), "odd": (40, 64)}


def copying(layer, remove_weight):
    """As vLLM's own choice: multiplies with a copy."""
    copy = layer.weight.detach().clone()
    layer.cpu_linear = lambda x, weight, bias: nn.functional.linear(x, copy, bias)


@pytest.fixture(autouse=True)
def own_choice(monkeypatch):
    monkeypatch.setattr(vllm_linear, "_own", [copying])


@pytest.fixture
def matrices():
    return {name: torch.randn(shape, dtype=torch.bfloat16) for name, shape in SHAPES.items()}


@pytest.fixture
def weights(matrices):
    """As a loader leaves them: packed where that is possible."""
    loaded = LoadedWeights(how="mapped")
    for name, matrix in matrices.items():
        layer = nn.Module()
        shared = SharedLinear(pack(matrix)) if PACKS and name != "odd" else None
        if shared is not None:
            loaded.shared[name] = shared
        layer.weight = nn.Parameter(torch.empty(0) if shared else matrix, requires_grad=False)
        setattr(layer, "cpu_linear", shared or plain_linear)  # noqa: B010 - a module has no such field
        loaded.layers[name] = layer
    return loaded


class Engine:
    """Runs what it is given in a thread of its own, as the engine's core does."""

    def __init__(self):
        self.threads = set()

    async def run(self, work):
        def note():
            self.threads.add(threading.current_thread().name)
            return work(None)

        return await asyncio.to_thread(note)


def multiply(weights, name, tokens):
    layer = weights.layers[name]
    return layer.cpu_linear(torch.ones(tokens, SHAPES[name][1], dtype=torch.bfloat16), layer.weight, None)


async def packed(repacker):
    repacker.start(delay_s=0)
    async with asyncio.timeout(20):
        while repacker.state != "packed":
            await asyncio.sleep(0.001)


async def test_every_matrix_gets_a_private_copy_and_gives_the_same(weights, matrices):
    before = {name: multiply(weights, name, 9) for name in SHAPES}
    engine = Engine()
    repacker = Repacker(weights, engine.run, lambda: False)
    assert repacker.state == "idle"
    await packed(repacker)
    assert repacker.private_bytes == sum(matrix.nbytes for matrix in matrices.values())
    for name, expected in before.items():
        assert torch.allclose(multiply(weights, name, 9).float(), expected.float(), atol=0.2, rtol=0.02)
    assert isinstance(weights.layers["qkv"].cpu_linear, TwofoldLinear) == PACKS
    assert "repack" not in engine.threads  # the swap is the engine's own act


async def test_few_tokens_go_on_with_what_is_shared(weights):
    repacker = Repacker(weights, Engine().run, lambda: False)
    before = multiply(weights, "qkv", 2)
    await packed(repacker)
    assert torch.equal(multiply(weights, "qkv", 2), before)


async def test_dropped_copies_are_gone_and_can_be_made_again(weights):
    before = {name: weights.layers[name].cpu_linear for name in SHAPES}
    repacker = Repacker(weights, Engine().run, lambda: False)
    await packed(repacker)
    await repacker.drop()
    assert (repacker.state, repacker.private_bytes) == ("idle", 0)
    assert {name: weights.layers[name].cpu_linear for name in SHAPES} == before
    await packed(repacker)
    assert repacker.private_bytes > 0


async def test_what_is_dropped_in_the_middle_stays_dropped(weights, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow(layer, remove_weight):
        begun.set()
        go_on.wait(20)
        copying(layer, remove_weight)

    monkeypatch.setattr(vllm_linear, "_own", [slow])
    repacker = Repacker(weights, Engine().run, lambda: False)
    repacker.start(delay_s=0)
    await asyncio.to_thread(begun.wait, 20)
    assert repacker.state == "packing"
    before = weights.layers["qkv"].cpu_linear
    await repacker.drop()
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "repack":
            await asyncio.to_thread(thread.join, 20)
    assert weights.layers["qkv"].cpu_linear is before
    assert (repacker.state, repacker.private_bytes) == ("idle", 0)


async def test_it_waits_before_it_begins(weights):
    repacker = Repacker(weights, Engine().run, lambda: False)
    repacker.start(delay_s=3600)
    await asyncio.sleep(0)
    assert repacker.state == "idle"
    await repacker.drop()


async def test_a_busy_engine_delays_it_and_does_not_stop_it(weights):
    repacker = Repacker(weights, Engine().run, lambda: True)
    await packed(repacker)


async def test_a_machine_that_is_short_of_memory_keeps_what_is_shared(weights, monkeypatch, caplog):
    monkeypatch.setattr(vllm_repack, "available_bytes", lambda: 1 << 20)
    repacker = Repacker(weights, Engine().run, lambda: False)
    repacker.start(delay_s=0)
    assert repacker._task is not None
    await repacker._task
    assert repacker.state == "idle"
    assert "short of memory" in caplog.text


async def test_a_defect_costs_nothing_but_speed(weights, monkeypatch, caplog):
    def broken(layer, remove_weight):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(vllm_linear, "_own", [broken])
    repacker = Repacker(weights, Engine().run, lambda: False)
    repacker.start(delay_s=0)
    assert repacker._task is not None
    await repacker._task
    assert "cannot be packed" in caplog.text
    assert multiply(weights, "qkv", 9).shape == (9, 96)
    await repacker.drop()
    assert repacker.state == "idle"


async def test_where_nothing_multiplies_nothing_begins():
    repacker = Repacker(LoadedWeights(), Engine().run, lambda: False)
    repacker.start(delay_s=0)
    assert repacker._task is None
    await repacker.drop()

"""A real vLLM engine on a GPU, each way to sleep. Skipped, saying so, where vLLM is not built for CUDA."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import pytest

from models.nvml import process_bytes
from models.runtimes.protocol import Budget, Device, EngineOrder
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import launcher, short_folder

pytestmark = [pytest.mark.gpu, pytest.mark.anyio]

GIB = 1 << 30
MODEL = "ROUNDHOUSE_GPU_MODEL"  # a folder with a chat model


def missing():
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed"
    if importlib.util.find_spec("vllm.cumem_allocator") is None:
        return "the vLLM that is installed has no CUDA build (vllm.cumem_allocator)"
    return ""


needs_vllm = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def model():
    if MODEL not in os.environ:
        pytest.fail(f"name a folder with a chat model in {MODEL}; python -m models.demo makes small ones")
    return Path(os.environ[MODEL])


def ordered(here, model, gpu, sleep):
    weights_bytes = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return EngineOrder(
        replica_id="r1",
        model_id="chat",
        served_names=("chat",),
        runtime="vllm",
        source=str(model),
        engine_args={"sleep": sleep, "enforce_eager": True, "max_model_len": 512, "max_num_seqs": 8},
        device=Device(kind="cuda", uuid=gpu.uuid, memory_bytes=gpu.total_bytes, simulated=False),
        budget=Budget(weights_bytes=weights_bytes, kv_cache_bytes=2 * GIB, overhead_bytes=3 * GIB),
        http_path=str(here / "r1.http"),
        control_path=str(here / "r1.ctl"),
        log_path=str(here / "logs" / "r1.log"),
        lease_s=600.0,
    )


async def say(order):
    body = {"model": "chat", "prompt": "The roundhouse", "max_tokens": 16, "temperature": 0, "seed": 1}
    status, told = await call(order.http_path, "/v1/completions", body)
    assert status == 200, told
    return told["choices"][0]["text"]


@needs_vllm
@pytest.mark.parametrize("sleep", ["unmap", "vllm", "discard", "checkpoint"])
async def test_an_engine_sleeps_and_answers_as_before(sleep, gpu, model):
    with short_folder() as here, launcher(here, "vllm") as running:
        await running.ready()
        order = ordered(here, model, gpu, sleep)
        engine = await running.start(order)
        before = await say(order)
        awake = process_bytes(engine.status.pid, gpu.uuid) or 0
        times_s = []
        for _ in range(3):
            began_s = time.perf_counter()
            await engine.call("sleep")
            slept_s = time.perf_counter()
            left = process_bytes(engine.status.pid, gpu.uuid) or 0
            assert awake - left >= 2 * GIB * 0.98  # at least the cache
            assert left == 0 or sleep != "checkpoint"
            began_wake_s = time.perf_counter()
            await engine.call("wake")
            times_s.append((slept_s - began_s, time.perf_counter() - began_wake_s))
            assert await say(order) == before
        print(f"\n{sleep}: residue {left >> 20} MiB, (sleep, wake) {times_s}")

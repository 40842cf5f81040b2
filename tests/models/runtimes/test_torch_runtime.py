"""The torch runtime in this process: which class serves a folder, and what a class may get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from models.runtimes.device_weights import DeviceWeights
from models.runtimes.protocol import EngineError
from models.runtimes.torch_model import Embedding
from models.runtimes.torch_runtime import TorchRuntime
from tests.models.runtimes.orders import order as order_in
from tests.models.runtimes.tiny_encoders import make_encoder

pytestmark = pytest.mark.anyio

HERE = "tests.models.runtimes.test_torch_runtime"


class Minimal:
    """A model class in ten lines."""

    task = "embeddings"
    dimensions, vocabulary_size, max_tokens = 1, 10, 10

    def load(self, folder, device):
        self.module = torch.nn.Linear(1, 1, device=device)

    def predict(self, inputs):
        return [Embedding(np.array([len(item)], dtype=np.float32), len(item)) for item in inputs]


class LoadRaises(Minimal):
    def load(self, folder, device):
        raise ValueError("the third layer is upside down")


class LoadRunsOut(Minimal):
    def load(self, folder, device):
        raise torch.OutOfMemoryError("CUDA out of memory")


class Painter(Minimal):
    task = "images"


class NoPredict:
    task = "embeddings"

    def load(self, folder, device):
        pass


def order(source, **engine_args):
    return order_in(Path("/run/x"), source=source, runtime="torch", model_id="m", **engine_args)


async def load(source, **engine_args):
    return await TorchRuntime().load(order(source, **engine_args))


async def ask(engine, given):
    transport = httpx.ASGITransport(engine.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        return await client.post("/v1/embeddings", json={"model": "m", "input": given})


async def test_a_folder_finds_its_class_by_its_architecture(tmp_path):
    engine = await load(make_encoder(tmp_path))
    answer = (await ask(engine, ["a b", "c"])).json()
    assert answer["usage"]["prompt_tokens"] == 3
    assert len(answer["data"][0]["embedding"]) == 16
    assert engine.timings_s["weights"] > 0


async def test_ones_own_class(tmp_path):
    engine = await load(tmp_path, python_class=f"{HERE}:Minimal", max_batch=2)
    assert (await ask(engine, "four")).json()["data"][0]["embedding"] == [4.0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"python_class": "torch"}, "must be written as package.module:Class"),
        ({"python_class": "no.such.module:Model"}, r"no\.such\.module cannot be imported"),
        ({"python_class": f"{HERE}:Nothing"}, f"{HERE} has no Nothing"),
        ({"python_class": f"{HERE}:NoPredict"}, "NoPredict has no method predict"),
        ({"python_class": f"{HERE}:LoadRaises"}, "could not load the model: the third layer is upside down"),
        ({"python_class": f"{HERE}:LoadRunsOut"}, "the model does not fit"),
        ({"python_class": f"{HERE}:Painter"}, "the task 'images', which no endpoint serves"),
        (
            {"pyton_class": "x"},
            "engine_args.pyton_class is not an argument of the torch runtime; did you mean python_class",
        ),
        ({"zzz": 1}, "there are python_class and max_batch"),
        ({"max_batch": 0}, "engine_args.max_batch must be a whole number above 0"),
        ({"max_batch": True}, "engine_args.max_batch must be a whole number above 0"),
    ],
)
async def test_what_is_wrong_with_a_class_is_named(tmp_path, given, said):
    with pytest.raises(EngineError, match=said.replace("(", r"\(")):
        await load(tmp_path, **given)


async def test_an_architecture_without_a_class(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(EngineError, match="no class for the architecture LlamaForCausalLM: name yours"):
        await load(tmp_path)


async def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match="gone does not exist"):
        await load(tmp_path / "gone")


async def test_memory_is_the_weights_while_awake_and_none_asleep(tmp_path):
    engine = await load(make_encoder(tmp_path))
    before = (await ask(engine, "a b c")).json()
    # The file's bytes less its header, and the buffers that no file holds.
    size = (tmp_path / "model.safetensors").stat().st_size
    assert 0.7 * size < engine.measured().weights_bytes < 1.2 * size
    await engine.sleep()
    assert engine.measured().weights_bytes == 0
    await engine.wake()
    assert engine.measured().weights_bytes > 0
    assert (await ask(engine, "a b c")).json() == before


def test_on_the_cpu_weights_stay_where_they_are():
    module = torch.nn.Linear(8, 8)
    weights = DeviceWeights(module, "cpu")
    pointer = module.weight.data_ptr()
    weights.to_host()
    weights.to_device()
    assert not weights.moves
    assert module.weight.data_ptr() == pointer
    assert weights.size_bytes() == 8 * 8 * 4 + 8 * 4


def test_shared_storage_is_counted_once():
    module = torch.nn.Linear(8, 8, bias=False)
    tied = torch.nn.Sequential(module, torch.nn.Linear(8, 8, bias=False))
    tied[1].weight = module.weight
    assert DeviceWeights(tied, "cpu").size_bytes() == 8 * 8 * 4

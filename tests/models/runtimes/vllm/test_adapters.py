"""LoRA adapters on real vLLM engines: each is called by its name, beside weights that are mapped as ever."""

from __future__ import annotations

import asyncio

import pytest

from models.runtimes.protocol import EngineError
from tests.models.runtimes.adapters import make_adapter
from tests.models.runtimes.conftest import demo_model
from tests.models.runtimes.started import STORY, engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def running(vllm_launcher):
    return vllm_launcher


@pytest.fixture(scope="module")
def chatty(vllm_launcher):
    return demo_model(vllm_launcher, "tiny-llama")


@pytest.fixture
def adapters(tmp_path, chatty):
    return {
        f"org/{name}": make_adapter(tmp_path / name, chatty, seed=seed, rank=rank)
        for name, seed, rank in (("pirate", 1, 4), ("poet", 2, 12))
    }


async def told(one, model, max_tokens=24):
    body = {"model": model, "messages": STORY, "max_tokens": max_tokens, "temperature": 0}
    answer = await one.answer("/v1/chat/completions", body)
    assert answer["model"] == model
    return answer["choices"][0]["message"]["content"]


async def test_each_adapter_speaks_in_its_own_way_and_the_model_as_without_them(running, chatty, adapters, tmp_path):
    async with engine(running, chatty, layout_dir=tmp_path / "layouts") as one:
        plain = await one.tell(24)
    async with engine(running, chatty, layout_dir=tmp_path / "layouts", adapters=adapters) as one:
        status = await one.connection.call("status")
        assert (status.detail["path"], status.detail["weights"]) == ("fast", "mapped")
        names = ("some-model", "org/pirate", "org/poet")
        alone = [await told(one, name) for name in names]
        assert alone[0] == plain, "who calls the model itself notices nothing"
        assert len(set(alone)) == 3
        # In one batch, each row with its own adapter.
        assert await asyncio.gather(*(told(one, name) for name in names)) == alone
        listed = (await one.answer("/v1/models", method="GET"))["data"]
        assert {model["id"]: model["parent"] for model in listed if model["parent"]} == {
            "org/pirate": "some-model", "org/poet": "some-model",
        }  # fmt: skip
        assert (await one.call("/v1/chat/completions", {"model": "org/pirat", "messages": STORY}))[0] == 404


async def test_they_outlast_a_sleep_and_faster_weights(running, chatty, adapters, tmp_path):
    async with engine(running, chatty, layout_dir=tmp_path / "layouts", adapters=adapters, repack=True) as one:
        before = await told(one, "org/pirate")
        async with asyncio.timeout(60):
            while (await one.connection.call("status")).detail["weights"] != "packed":
                await asyncio.sleep(0.05)
        packed = await told(one, "org/pirate")
        await one.connection.call("sleep")
        await one.connection.call("wake")
        assert await told(one, "org/pirate") == before == packed


async def test_a_broken_adapter_fails_the_start_in_a_sentence(running, chatty, adapters):
    folder = adapters["org/pirate"]
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(EngineError, match=r"adapter org/pirate has no adapter_model\.safetensors") as refused:
        async with engine(running, chatty, adapters=adapters):
            pass
    assert refused.value.fault == "weights"

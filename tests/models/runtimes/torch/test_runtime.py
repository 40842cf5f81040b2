"""The torch runtime in this process: which class serves a folder, what it is told, and what it may get wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import httpx
import msgspec
import pytest
import torch
from safetensors.torch import save_file

from models.runtimes.model_folder import read_header
from models.runtimes.protocol import EngineError
from models.runtimes.torch.runtime import TorchRuntime
from tests.models.runtimes.bad_classes.models import DRIFT, released
from tests.models.runtimes.orders import order as order_in
from tests.models.runtimes.tiny_encoders import make_encoder

pytestmark = pytest.mark.anyio

HERE = "tests.models.runtimes.torch.test_runtime"


class Scale:
    """A model class in ten lines: multiplies by its one weight."""

    task = "predict"

    def load(self, device, weights):
        self.factor = weights["factor"].to(device)
        self.settings = weights.settings

    def predict(self, batch):
        return [float(number * self.factor) for number in batch]


class Verified(Scale):
    """Says what it computes for an example, which ``DRIFT`` falsifies."""

    def predict(self, batch):
        assert not torch.is_grad_enabled()
        return [number + DRIFT["by"] for number in super().predict(batch)]

    def example(self):
        return 4


class Dice(Verified):
    rolled = 0

    def predict(self, batch):
        Dice.rolled += 1
        return [float(Dice.rolled) for _ in batch]


class Unsure(Scale):
    """Has an example only sometimes."""

    def example(self):
        return None


class BreaksOnItsExample(Scale):
    def example(self):
        return "not a number"


class LoadRaises(Scale):
    def load(self, device, weights):
        raise ValueError("the third layer is upside down")


class LoadRunsOut(Scale):
    def load(self, device, weights):
        raise torch.OutOfMemoryError("CUDA out of memory")


class LoadRefuses(Scale):
    def load(self, device, weights):
        raise EngineError("this model needs a left hand", "code")


class LoadExits(Scale):
    def load(self, device, weights):
        raise SystemExit(2)


class LoadHangs(Scale):
    def load(self, device, weights):
        from tests.models.runtimes.bad_classes.models import never

        never()


class Stranger(Scale):
    task = "telepathy"


@pytest.fixture
def folder(tmp_path):
    save_file({"factor": torch.tensor([2.5])}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def order(source, layout_dir="", cold=False, **engine_args):
    made = order_in(Path("/run/x"), source=source, runtime="torch", model_id="m", **engine_args)
    return msgspec.structs.replace(made, layout_dir=str(layout_dir), cold=cold)


@contextlib.asynccontextmanager
async def loaded(source, name="", **more):
    named = {"python_class": f"{HERE}:{name}"} if name else {}
    engine = await TorchRuntime().load(order(source, **named, **more))
    try:
        yield engine
    finally:
        await engine.close()


async def call(engine, path, **body):
    transport = httpx.ASGITransport(engine.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        return await client.post(path, json={"model": "m", **body})


async def predict(engine, given):
    return await call(engine, "/v1/predict/m", inputs=given)


async def test_a_folder_finds_its_class_by_its_architecture(tmp_path):
    async with loaded(make_encoder(tmp_path)) as engine:
        answer = (await call(engine, "/v1/embeddings", input=["a b", "c"])).json()
        assert answer["usage"]["prompt_tokens"] == 3
        assert len(answer["data"][0]["embedding"]) == 16
        assert set(engine.timings_s) == {"class", "weights", "canary", "app"}
        assert engine.describe() == {
            "path": "fast",
            "weights": "mapped",
            "process": "own",
            "task": "embeddings",
            "class": "SentenceEmbedder",
        }


async def test_ones_own_class(folder):
    async with loaded(folder, "Scale", max_batch=2, settings={"colour": "red"}) as engine:
        response = await predict(engine, 4)
        assert (response.status_code, response.json()["output"]) == (200, 10.0)
        assert engine.describe()["class"] == "Scale"


@pytest.mark.parametrize(
    ("name", "said", "fault"),
    [
        ("LoadRaises", "LoadRaises could not load the model: the third layer is upside down", "code"),
        ("LoadRunsOut", "the model does not fit: the device ran out of memory while it was loaded", "memory"),
        ("LoadRefuses", "this model needs a left hand", "code"),
        ("LoadExits", "LoadExits could not load the model: the model's class raised SystemExit", "code"),
        ("Stranger", "Stranger is for the task 'telepathy', which no endpoint serves: there are ", "code"),
        ("BreaksOnItsExample", "BreaksOnItsExample failed on its own example: ", "code"),
        ("Nothing", f"engine_args.python_class: {HERE} has no Nothing", "code"),
    ],
)
async def test_what_is_wrong_with_a_class_is_one_sentence(folder, name, said, fault):
    with pytest.raises(EngineError) as told:
        async with loaded(folder, name):
            pass
    assert str(told.value).startswith(said)
    assert told.value.fault == fault
    assert "\n" not in str(told.value)


async def test_a_load_that_hangs_is_given_up(folder):
    with pytest.raises(EngineError, match=r"LoadHangs\.load has not returned for 0\.1 s") as told, released():
        async with loaded(folder, "LoadHangs", load_timeout=0.1):
            pass
    assert told.value.fault == "hang"


async def test_an_architecture_without_a_class(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(EngineError, match="no class for the architecture LlamaForCausalLM: name yours"):
        async with loaded(tmp_path):
            pass


async def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match="gone does not exist"):
        async with loaded(tmp_path / "gone"):
            pass


async def test_memory_by_kind_awake_and_asleep(tmp_path):
    async with loaded(make_encoder(tmp_path)) as engine:
        before = (await call(engine, "/v1/embeddings", input="a b c")).json()
        awake = engine.measured()
        # The file's bytes less its header, and the buffers that no file holds.
        size = (tmp_path / "model.safetensors").stat().st_size
        assert 0.7 * size < awake.weights_bytes < 1.2 * size
        assert awake.shared_bytes > 0
        assert awake.overhead_bytes > 0
        await engine.sleep()
        asleep = engine.measured()
        assert (asleep.weights_bytes, asleep.kv_cache_bytes) == (0, 0)
        await engine.wake()
        assert engine.measured().weights_bytes == awake.weights_bytes
        assert (await call(engine, "/v1/embeddings", input="a b c")).json() == before


class TestCanary:
    @pytest.fixture(autouse=True)
    def _straight(self):
        DRIFT["by"] = 0.0
        yield
        DRIFT["by"] = 0.0

    async def test_a_later_start_must_compute_what_the_first_did(self, folder, tmp_path):
        layout = tmp_path / "layout"
        async with loaded(folder, "Verified", layout_dir=layout):
            pass
        async with loaded(folder, "Verified", layout_dir=layout):
            pass
        DRIFT["by"] = 0.5
        with pytest.raises(EngineError, match="Verified no longer computes for its example") as told:
            async with loaded(folder, "Verified", layout_dir=layout):
                pass
        assert told.value.fault == "canary"

    async def test_a_cold_start_trusts_no_record_and_makes_it_anew(self, folder, tmp_path):
        layout = tmp_path / "layout"
        async with loaded(folder, "Verified", layout_dir=layout):
            pass
        DRIFT["by"] = 0.5
        async with loaded(folder, "Verified", layout_dir=layout, cold=True):
            pass
        async with loaded(folder, "Verified", layout_dir=layout):
            pass

    async def test_a_wake_that_computes_something_else_ends_the_engine(self, folder):
        async with loaded(folder, "Verified") as engine:
            await engine.sleep()
            await engine.wake()
            await engine.sleep()
            DRIFT["by"] = 0.5
            with pytest.raises(EngineError, match="no longer computes"):
                await engine.wake()
            with pytest.raises(EngineError, match="no longer computes") as told:
                await engine.watch()
            assert told.value.fault == "canary"

    async def test_a_flipped_bit_is_found_at_the_next_start(self, tmp_path):
        source, layout = make_encoder(tmp_path / "model"), tmp_path / "layout"
        async with loaded(source, layout_dir=layout):
            pass
        file = source / "model.safetensors"
        begin, tensors = read_header(file)
        _, end = tensors["encoder.layer.0.output.dense.weight"].data_offsets
        content = bytearray(file.read_bytes())
        content[begin + end - 1] ^= 0x40  # in the exponent of its last number
        file.write_bytes(content)
        with pytest.raises(EngineError, match="SentenceEmbedder no longer computes for its example") as told:
            async with loaded(source, layout_dir=layout):
                pass
        assert told.value.fault == "canary"

    @pytest.mark.parametrize("name", ["Dice", "Unsure"])
    async def test_a_class_that_cannot_be_verified_is_served_all_the_same(self, folder, tmp_path, name):
        async with loaded(folder, name, layout_dir=tmp_path / "layout") as engine:
            await engine.sleep()
            await engine.wake()
        assert not list(tmp_path.glob("layout/*"))


async def test_it_waits_for_as_long_as_nothing_is_wrong(folder):
    async with loaded(folder, "Scale") as engine:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.watch(), 0.05)
        assert (await predict(engine, 2)).status_code == 200

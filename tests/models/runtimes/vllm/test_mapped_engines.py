"""Engines that map stored weights: what they share, how they are verified, and what becomes of damage."""

from __future__ import annotations

import asyncio
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.runtimes.protocol import EngineError
from models.runtimes.vllm.layout import find_layout
from tests.models.runtimes.conftest import demo_model
from tests.models.runtimes.http_calls import stream
from tests.models.runtimes.orders import MIB
from tests.models.runtimes.started import STORY, engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def running(vllm_launcher):
    return vllm_launcher


@pytest.fixture(scope="module")
def chatty(vllm_launcher):
    """A small chat model whose readout is a matrix of its own."""
    return demo_model(vllm_launcher, "tiny-llama")


@pytest.fixture
def layouts(tmp_path):
    return tmp_path / "layouts"


async def status(one):
    return await one.connection.call("status")


async def how(one):
    return (await status(one)).detail["weights"]


async def until(one, weights):
    async with asyncio.timeout(60):
        while await how(one) != weights:
            await asyncio.sleep(0.05)


def only_layout(folder):
    (path,) = folder.glob("*.safetensors")
    found = find_layout(folder, path.stem)
    assert found is not None
    return found


def flip(path, share, seed=1):
    """Flip a bit in every so many numbers of the file's data."""
    layout = find_layout(path.parent, path.stem)
    assert layout is not None
    numbers = np.memmap(path, dtype=np.uint16, mode="r+", offset=layout.begin)
    rng = np.random.default_rng(seed)
    places = rng.integers(0, len(numbers), max(1, int(len(numbers) * share)))
    numbers[places] ^= (1 << rng.integers(0, 16, len(places))).astype(np.uint16)
    numbers.flush()


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gemma"])
async def test_mapped_weights_give_the_words_that_vllms_own_loader_gives(running, name, layouts):
    source = demo_model(running, name)
    told = []
    async with engine(running, source, load_format="safetensors") as one:
        assert (await status(one)).detail["why"] == "not mapped: the card chose another load format"
        told.append(await one.tell(48))
    for _ in range(2):  # stored, then mapped
        async with engine(running, source, layout_dir=layouts, repack=False) as one:
            assert await how(one) == "mapped"
            told.append(await one.tell(48))
    assert told[0] == told[1] == told[2]


async def test_replicas_share_their_pages(running, gemma, layouts):
    async with (
        engine(running, gemma, layout_dir=layouts, repack=False) as first,
        engine(running, gemma, layout_dir=layouts, repack=False) as second,
    ):
        assert await first.tell(4) == await second.tell(4)
        measured = (await status(second)).measured
        assert measured is not None
        assert measured.shared_bytes > 50 * MIB
        assert measured.weights_bytes > 50 * MIB
        assert measured.rss_bytes < 130 * MIB
        assert measured.overhead_bytes <= measured.rss_bytes


async def test_many_first_starts_at_once(running, llama, layouts):
    async def start():
        async with engine(running, llama, layout_dir=layouts) as one:
            return await one.tell(8)

    told = await asyncio.gather(*(start() for _ in range(4)))
    assert len(set(told)) == 1
    assert only_layout(layouts).manifest.answers


async def test_a_layout_gets_its_hash_while_the_engine_serves(running, llama, layouts):
    async with engine(running, llama, layout_dir=layouts):
        async with asyncio.timeout(30):
            while only_layout(layouts).manifest.sha256 is None:
                await asyncio.sleep(0.05)


async def test_the_canary_leaves_no_trace(running, llama, layouts):
    async with engine(running, llama, layout_dir=layouts) as one:
        await one.connection.call("sleep")
        await one.connection.call("wake")
        lines = (await one.answer("/metrics", method="GET")).splitlines()
        counters = [line for line in lines if 'model_name="some-model"' in line and "_total{" in line]
        assert counters
        assert [line for line in counters if not line.endswith(" 0.0")] == []


@pytest.mark.parametrize("damage", ["truncated", "no manifest", "another's"])
async def test_a_damaged_layout_is_made_anew(running, llama, layouts, damage):
    async with engine(running, llama, layout_dir=layouts, repack=False) as one:
        before = await one.tell()
    path = only_layout(layouts).path
    if damage == "truncated":
        with path.open("r+b") as file:
            file.truncate(1000)
    elif damage == "no manifest":
        path.with_suffix(".json").unlink()
    else:
        save_file({"a": np.zeros(3)}, path)
    async with engine(running, llama, layout_dir=layouts, repack=False) as one:
        assert await one.tell() == before
    assert only_layout(layouts).manifest.answers


async def test_flipped_bits_are_caught_before_anybody_is_answered(running, chatty, layouts):
    async with engine(running, chatty, layout_dir=layouts) as one:
        before = await one.tell()
    path = only_layout(layouts).path
    flip(path, 0.01)
    with pytest.raises(EngineError, match="does not compute what it did") as told:
        async with engine(running, chatty, layout_dir=layouts):
            pass
    assert told.value.fault == "canary"
    async with engine(running, chatty, layout_dir=layouts, cold=True) as one:
        assert await one.tell() == before
    async with engine(running, chatty, layout_dir=layouts) as one:
        assert await one.tell() == before


async def test_weights_that_are_damaged_while_it_sleeps_are_caught_when_it_wakes(running, chatty, layouts):
    async with engine(running, chatty, layout_dir=layouts, repack=False) as one:
        await one.connection.call("sleep")
        flip(only_layout(layouts).path, 0.01)
        with pytest.raises(EngineError, match="does not compute what it did") as told:
            await one.connection.call("wake")
        assert told.value.fault == "canary"
        assert (await status(one)).state == "asleep"


async def test_weights_are_packed_while_it_serves_and_shared_again_asleep(running, gemma, layouts):
    async with engine(running, gemma, layout_dir=layouts) as one:
        body = {"model": "some-model", "messages": STORY, "max_tokens": 300, "stream": True, "ignore_eos": True}
        events = [event async for event in stream(one.order.http_path, "/v1/chat/completions", body | {"seed": 1})]
        assert sum(len(event["choices"]) for event in events) > 200
        before = await one.tell(48)
        await until(one, "packed")
        assert await one.tell(48) == before
        packed = (await status(one)).measured
        asleep = (await one.connection.call("sleep")).measured
        assert packed is not None
        assert asleep is not None
        assert packed.rss_bytes - asleep.rss_bytes > 30 * MIB
        assert await how(one) == "mapped"
        assert (await one.connection.call("wake")).detail["weights"] == "mapped"
        assert await one.tell(48) == before
        await until(one, "packed")


async def test_another_precision_is_another_layout(running, llama, layouts):
    """In single precision no matrix can be shared packed, and each is multiplied with as it is."""
    async with engine(running, llama, layout_dir=layouts, repack=False):
        pass
    told = []
    for repack in (False, True):
        async with engine(running, llama, layout_dir=layouts, repack=repack, dtype="float32") as one:
            assert await how(one) == "mapped"
            told.append(await one.tell(16))
            if repack:
                await until(one, "packed")
                told.append(await one.tell(16))
    assert len(set(told)) == 1
    assert len(list(layouts.glob("*.safetensors"))) == 2


async def test_settings_that_change_the_answer_are_verified_first(running, llama, layouts):
    for mode in ("raw_logprobs", "raw_logits", "raw_logprobs"):
        async with engine(running, llama, layout_dir=layouts, repack=False, logprobs_mode=mode) as one:
            assert await how(one) == "mapped"
    assert len(only_layout(layouts).manifest.answers) == 2


async def test_a_model_that_pools_is_mapped_and_verified(running, minilm, layouts):
    vectors = []
    for _ in range(2):
        async with engine(running, minilm, layout_dir=layouts) as one:
            assert await how(one) == "mapped"
            answer = await one.answer("/v1/embeddings", {"input": ["The cat sleeps on the sofa."]})
            vectors.append(np.array(answer["data"][0]["embedding"]))
    (answer,) = only_layout(layouts).manifest.answers.values()
    assert answer.vector
    assert np.allclose(vectors[0], vectors[1], atol=1e-3)


async def test_a_folder_that_cannot_be_written_costs_the_sharing_alone(running, llama, tmp_path):
    (tmp_path / "file").write_text("")
    async with engine(running, llama, layout_dir=tmp_path / "file" / "below") as one:
        assert await one.tell(4)
        said = (await status(one)).detail
        assert said["why"] == "not mapped: its layout cannot be stored"


@pytest.mark.parametrize("part", ["mlp.up_proj", "mlp.gate_proj", "self_attn.k_proj", "self_attn.q_proj"])
async def test_half_of_a_fused_matrix_is_not_enough(running, llama, tmp_path, part):
    spoilt = without_part(llama, tmp_path, f"model.layers.0.{part}.weight")
    with pytest.raises(
        EngineError, match=f"the weights are incomplete: model.layers.0.{part}.weight is missing"
    ) as told:
        async with engine(running, spoilt):
            pass
    assert told.value.fault == "weights"


def without_part(folder, tmp_path, name):
    spoilt = tmp_path / "spoilt"
    shutil.copytree(folder, spoilt)
    (path,) = spoilt.glob("*.safetensors")
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    first, last = header.pop(name)["data_offsets"]
    for entry in header.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= last:
            entry["data_offsets"] = [offset - (last - first) for offset in entry["data_offsets"]]
    words = json.dumps(header).encode()
    data = content[8 + length :]
    path.write_bytes(len(words).to_bytes(8, "little") + words + data[:first] + data[last:])
    return spoilt


async def test_a_configuration_that_is_smaller_than_the_weights_is_refused(running, llama, tmp_path):
    smaller = tmp_path / "smaller"
    shutil.copytree(llama, smaller)
    config = json.loads((smaller / "config.json").read_text())
    config["intermediate_size"] //= 2
    (smaller / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"the weights do not match config\.json") as told:
        async with engine(running, smaller):
            pass
    assert told.value.fault == "weights"
    assert "gate_proj" in str(told.value) or "down_proj" in str(told.value) or "another shape" in str(told.value)


async def test_weights_beyond_the_machine_are_refused(running, llama):
    with pytest.raises(EngineError, match="the KV cache wants") as told:
        async with engine(running, llama, kv_bytes=1 << 44):
            pass
    assert told.value.fault == "memory"

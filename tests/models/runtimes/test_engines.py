"""The real thing: one launcher with vLLM and torch, and real models in forked children.

Starting the launcher takes some seconds, so all tests share it; each starts engines of its own and stops them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from models.runtimes.client import EngineConnection, scan
from models.runtimes.proc import private_bytes
from models.runtimes.protocol import EngineError
from tests.models.runtimes.http_calls import stream
from tests.models.runtimes.launchers import launcher, short_folder, until_gone
from tests.models.runtimes.orders import MIB
from tests.models.runtimes.started import STORY, engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def running(vllm_launcher):
    return vllm_launcher


async def test_a_chat_is_answered_and_counted(running, llama):
    async with engine(running, llama) as one:
        answer = await one.answer("/v1/chat/completions", {"messages": STORY, "max_tokens": 7, "temperature": 0})
        assert answer["usage"]["completion_tokens"] == 7
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["choices"][0]["message"]["content"]
        models = await one.answer("/v1/models", method="GET")
        assert [model["id"] for model in models["data"]] == ["some-model", "some-model-alias"]
        assert (await one.answer("/v1/chat/completions", {"model": "some-model-alias", "messages": STORY}))["choices"]
        status, refused = await one.call("/v1/chat/completions", {"model": "other", "messages": STORY})
        assert (status, refused["error"]["param"]) == (404, "model")


async def test_a_stream_is_the_same_answer_in_pieces(running, llama):
    async with engine(running, llama) as one:
        whole = await one.tell()
        body = {"model": "some-model", "messages": STORY, "max_tokens": 24, "temperature": 0, "stream": True}
        events = [event async for event in stream(one.order.http_path, "/v1/chat/completions", body)]
        pieces = [event["choices"][0]["delta"].get("content") or "" for event in events]
        assert "".join(pieces) == whole
        assert sum(bool(piece) for piece in pieces) > 5


async def test_every_endpoint_of_vllms_own_server_is_there(running, llama):
    async with engine(running, llama) as one:
        assert (await one.answer("/v1/completions", {"prompt": "the", "max_tokens": 3, "logprobs": 2}))["choices"]
        assert (await one.answer("/v1/responses", {"input": "hi", "max_output_tokens": 16}))["output"]
        assert (await one.answer("/v1/messages", {"messages": STORY, "max_tokens": 4}))["content"]
        assert (await one.answer("/v1/messages/count_tokens", {"messages": STORY}))["input_tokens"] > 5
        tokens = (await one.answer("/tokenize", {"prompt": "a train"}))["tokens"]
        assert "a train" in (await one.answer("/detokenize", {"tokens": tokens}))["prompt"]
        text = await one.tell(64, response_format={"type": "json_object"})
        assert text.lstrip().startswith("{")
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
        assert await one.answer(
            "/v1/chat/completions", {"messages": STORY, "max_tokens": 4, "tools": [tool], "tool_choice": "auto"}
        )


@pytest.mark.parametrize("path", ["/sleep", "/collective_rpc", "/reset_prefix_cache", "/wake_up"])
async def test_the_developers_endpoints_are_not_there(running, llama, path):
    async with engine(running, llama) as one:
        assert (await one.call(path, {}))[0] == 404


async def test_thirty_two_at_once(running, llama):
    async with engine(running, llama) as one:
        alone = await one.tell(16)
        answers = await asyncio.gather(*(one.tell(16) for _ in range(32)))
        assert len(answers) == 32
        assert all(answers)
        assert await one.tell(16) == alone


async def test_a_client_that_leaves_frees_its_sequence(running, llama):
    async with engine(running, llama) as one:
        connector = aiohttp.UnixConnector(path=one.order.http_path)
        async with aiohttp.ClientSession(connector=connector) as session:
            body = {"model": "some-model", "messages": STORY, "max_tokens": 1900, "stream": True, "ignore_eos": True}
            response = await session.post("http://engine/v1/chat/completions", json=body)
            await response.content.readany()
            assert await one.running_requests() == 1
            response.close()
        async with asyncio.timeout(10):
            while await one.running_requests():
                await asyncio.sleep(0.02)


async def test_two_families_and_an_embedder_side_by_side(running, llama, gemma, minilm):
    async with (
        engine(running, llama, replica_id="a") as first,
        engine(running, gemma, replica_id="b") as second,
        engine(running, minilm, "torch", replica_id="c") as third,
    ):
        alone = [await first.tell(), await second.tell()]
        one, other, embeddings = await asyncio.gather(
            first.tell(), second.tell(), third.answer("/v1/embeddings", {"input": ["one", "two"]})
        )
        assert [one, other] == alone
        assert one != other
        assert len(embeddings["data"]) == 2
        found = {status.order.replica_id: status.state for status in await scan(running.folder)}
        assert found == {"a": "ready", "b": "ready", "c": "ready"}


async def test_the_fast_path_computes_what_transformers_computes(running, gemma):
    import torch
    from transformers import AutoModelForCausalLM

    async with engine(running, gemma, dtype="float32") as one:
        prompt = (await one.answer("/tokenize", {"prompt": "The train leaves the station and"}))["tokens"]
        body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
        tokens = (await one.answer("/v1/completions", body))["choices"][0]["token_ids"]
    reference: Any = AutoModelForCausalLM.from_pretrained(gemma, dtype=torch.float32)
    ids = torch.tensor([prompt])
    expected = reference.generate(ids, max_new_tokens=12, min_new_tokens=12, do_sample=False)
    assert tokens == expected[0, len(prompt) :].tolist()


def copied(running, source, name):
    target = running.folder / "models" / name
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


def truncated(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without(name):
    return lambda folder: (folder / name).unlink()


def configured(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "the model's folder .*spoilt does not exist"),
        (without("config.json"), r"has no config\.json"),
        (without("model.safetensors"), r"has no \*\.safetensors file"),
        (without("tokenizer.json"), r"has no tokenizer"),
        (truncated, r"model\.safetensors is damaged: its header promises \d+ bytes, it has \d+"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04pickle"), "damaged"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "the model's tokenizer"),
        (configured(architectures=["NoSuchModel"]), r"architecture \['NoSuchModel'\] is not supported"),
        (configured(num_hidden_layers=4), r"the weights are incomplete: model\.layers\.\d.* is missing"),
        (configured(num_hidden_layers=1), r"the weights do not match config\.json: the model has no layers\.1"),
        (
            configured(hidden_size=128, head_dim=32),
            r"the weights do not match config\.json: a tensor has another shape",
        ),
    ],
    ids=[
        "no folder",
        "no config",
        "no weights",
        "no tokenizer",
        "truncated weights",
        "pickled weights",
        "wrong tokenizer",
        "unknown architecture",
        "missing layers",
        "surplus layers",
        "another shape",
    ],
)
async def test_a_spoilt_model_is_one_clear_sentence_and_the_others_go_on(running, llama, spoil, said):
    spoilt = copied(running, llama, "spoilt")
    spoil(spoilt)
    async with engine(running, llama) as healthy:
        with pytest.raises(EngineError, match=said) as told:
            async with engine(running, spoilt):
                pass
        assert "Traceback" not in str(told.value)
        assert "\n" not in str(told.value)
        assert await healthy.tell(4)


@pytest.mark.parametrize(
    ("engine_args", "said"),
    [
        ({"max_modle_len": 512}, "engine_args.max_modle_len is not a vLLM argument; did you mean max_model_len?"),
        ({"max_model_len": 99_999}, "engine_args.max_model_len 99999 is more than the 2048 tokens"),
        ({"max_num_seqs": -1}, "engine_args.max_num_seqs: Input should be greater than or equal to 1"),
        ({"tool_call_parser": "nope"}, "engine_args.tool_call_parser: vLLM has no parser called nope"),
        ({"quantization": "nope"}, "engine_args.quantization: vLLM has no method called nope"),
        ({"dtype": "int3"}, "engine_args.dtype: invalid choice: 'int3'"),
        ({"kv_bytes": 1 << 40}, "the KV cache wants 1024.0 GiB, the machine has"),
        ({"kv_bytes": 4096}, "the KV cache is too small for a single token of this model"),
        ({"kv_bytes": 0}, "the KV cache is too small for a single token of this model"),
    ],
)
async def test_a_wrong_setting_is_one_clear_sentence(running, llama, engine_args, said):
    with pytest.raises(EngineError) as told:
        async with engine(running, llama, **engine_args):
            pass
    assert str(told.value).startswith(said)


async def test_what_a_small_kv_cache_is_told_to_become_is_enough(running, gemma):
    with pytest.raises(EngineError) as told:
        async with engine(running, gemma, kv_bytes=MIB // 2, max_model_len=2048):
            pass
    words = str(told.value).split()
    enough = float(words[words.index("least") + 1])
    async with engine(running, gemma, kv_bytes=int(enough * MIB), max_model_len=2048) as one:
        assert await one.tell(4)


async def test_the_longest_context_is_what_the_kv_cache_holds(running, gemma):
    lengths = []
    for kv_bytes in (MIB, 64 * MIB):
        async with engine(running, gemma, kv_bytes=kv_bytes) as one:
            (model, _) = (await one.answer("/v1/models", method="GET"))["data"]
            lengths.append(model["max_model_len"])
            assert await one.tell(4)
            too_long = {"prompt": [5] * (model["max_model_len"] + 1), "max_tokens": 1}
            assert (await one.call("/v1/completions", too_long))[0] == 400
    assert lengths[0] < lengths[1] == 2048


async def test_a_killed_engine_says_by_what(running, llama):
    async with engine(running, llama) as one:
        os.kill(one.pid, signal.SIGKILL)
        await asyncio.wait_for(one.connection.closed.wait(), 20)
        assert "was killed by signal 9" in one.connection.end_reason()


async def test_asleep_it_holds_less_and_awake_it_says_the_same(running, gemma):
    async with engine(running, gemma, kv_bytes=128 * MIB) as one:
        before = await one.tell()
        filler = [{"role": "user", "content": "The train is late again today. " * 120}]
        await asyncio.gather(*(one.tell(1, [{"role": "system", "content": str(n)}, *filler]) for n in range(32)))
        awake = (await one.connection.call("status")).measured
        asleep = (await one.connection.call("sleep")).measured
        assert awake is not None
        assert asleep is not None
        assert (asleep.weights_bytes, asleep.kv_cache_bytes) == (0, 0)
        assert awake.kv_cache_bytes == 128 * MIB
        assert awake.rss_bytes - asleep.rss_bytes > 40 * MIB
        assert asleep.rss_bytes == pytest.approx(private_bytes(one.pid), rel=0.1)
        status, refused = await one.call("/v1/chat/completions", {"messages": STORY})
        assert (status, refused["error"]["code"]) == (503, "engine_asleep")
        assert (await one.call("/health", method="GET"))[0] == 200
        assert (await one.connection.call("wake")).state == "ready"
        assert await one.tell() == before


async def test_a_client_that_has_just_left_does_not_spoil_the_sleep(running, llama):
    async with engine(running, llama) as one:
        before = await one.tell()
        connector = aiohttp.UnixConnector(path=one.order.http_path)
        async with aiohttp.ClientSession(connector=connector) as session:
            body = {"model": "some-model", "messages": STORY, "max_tokens": 1900, "stream": True, "ignore_eos": True}
            response = await session.post("http://engine/v1/chat/completions", json=body)
            await response.content.readany()
            response.close()
            assert (await one.connection.call("sleep")).state == "asleep"
        await one.connection.call("wake")
        assert await one.tell() == before


async def test_sleeping_and_waking_many_times(running, llama):
    async with engine(running, llama) as one:
        before = await one.tell()
        for _ in range(10):
            await one.connection.call("sleep")
            await one.connection.call("wake")
            assert await one.tell() == before


async def test_an_engine_without_an_owner_ends_with_its_lease(running, llama):
    async with engine(running, llama, lease_s=1.5) as one:
        for _ in range(8):
            await asyncio.sleep(0.25)
            await one.connection.call("renew")
        assert await one.tell(2)
        await one.connection.close()
        await asyncio.wait_for(until_gone(one.pid), 20)
        assert not Path(one.order.http_path).exists()


async def test_a_new_owner_adopts_a_running_engine(running, llama):
    async with engine(running, llama, lease_s=30) as one:
        await one.connection.close()
        adopted = await EngineConnection.connect(one.order.control_path)
        assert adopted.status.order == one.order
        assert adopted.status.measured is not None
        assert adopted.status.measured.weights_bytes > MIB // 2
        await adopted.call("renew")
        assert await one.tell(2)
        one.connection = adopted
        await adopted.call("stop")
        await adopted.closed.wait()


async def test_what_a_replica_costs_beyond_what_all_share(running, llama):
    async with engine(running, llama, kv_bytes=16 * MIB) as one:
        measured = one.connection.status.measured
        assert measured is not None
        assert measured.rss_bytes < 150 * MIB
        assert measured.rss_bytes == pytest.approx(private_bytes(one.pid), rel=0.2)


async def test_embeddings_know_a_paraphrase_from_something_else(running, minilm):
    async with engine(running, minilm, "torch") as one:
        texts = ["The cat sleeps on the sofa.", "A cat is napping on the couch.", "Interest rates rose in March."]
        answer = await one.answer("/v1/embeddings", {"input": texts})
        cat, same, other = (np.array(item["embedding"]) for item in answer["data"])
        assert cat @ same > 0.6 > 0.3 > cat @ other
        assert answer["usage"]["prompt_tokens"] > 20


async def test_an_embedder_stays_answerable_while_it_computes(running, minilm):
    async with engine(running, minilm, "torch") as one:
        heavy = asyncio.create_task(one.answer("/v1/embeddings", {"input": ["long " * 300] * 100}))
        while not heavy.done():
            assert (await one.call("/health", method="GET"))[0] == 200
            await asyncio.sleep(0.01)
        assert len((await heavy)["data"]) == 100


async def test_both_runtimes_embed_alike(running, minilm):
    """vLLM's pooling of the same folder is a check on ours."""
    texts = ["The cat sleeps on the sofa.", "Interest rates rose."]
    vectors = []
    for runtime in ("torch", "vllm"):
        async with engine(running, minilm, runtime) as one:
            answer = await one.answer("/v1/embeddings", {"input": texts})
            vectors.append(np.array([item["embedding"] for item in answer["data"]]))
    assert np.min(np.sum(vectors[0] * vectors[1], axis=1)) > 0.999


async def test_the_launcher_says_what_it_has_started(running):
    status = await running.ready()
    assert status.runtimes["vllm"].startswith("0.")
    assert not status.runtimes["torch"].startswith("unavailable")
    assert status.started > 0
    assert status.warm_s > 0


async def test_a_launchers_death_ends_no_engine(llama):
    with short_folder() as folder, launcher(folder, "vllm") as other:
        async with engine(other, llama) as one:
            before = await one.tell()
            other.process.kill()
            other.process.wait()
            assert await one.tell() == before
            assert (await one.connection.call("renew")).state == "ready"

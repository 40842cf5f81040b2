"""A vLLM on which the fast path is broken, whatever way: its own server is used, and it is said why."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from models.runtimes.protocol import EngineError
from tests.models.runtimes import stub_vllm
from tests.models.runtimes.fake_runtime import NAME
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import launcher, short_folder, until_gone
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio

BOTH = f"vllm,{NAME}:make"


@pytest.fixture
def folder():
    with short_folder() as made:
        yield made


@pytest.fixture(scope="module")
def plain():
    """One launcher whose vLLM runs the plain way."""
    with short_folder() as folder:
        stub = stub_vllm.write_stub(folder / "stub")
        with launcher(folder, "vllm", first_on_path=stub) as running:
            yield running


@pytest.fixture(scope="module")
def model(plain):
    """Enough of a model for what is looked at before the server is started."""
    made = plain.folder / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}))
    (made / "tokenizer.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    (made / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    return made


def processes_below(pid):
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in processes_below(child)]


async def test_the_probe_chooses_the_plain_server_and_says_why(plain):
    status = await plain.ready()
    why = "its warm-up failed (ImportError: vllm.platforms has moved)"
    assert status.paths == {"vllm": f"plain: {why}"}
    assert not status.runtimes["vllm"].startswith("unavailable")
    assert why in plain.log


async def test_a_probe_that_takes_its_process_along_does_so_too(folder):
    stub = stub_vllm.write_stub(folder / "stub", stub_vllm.CRASHES)
    with launcher(folder, BOTH, first_on_path=stub) as running:
        status = await running.ready()
        why = "its warm-up's process was ended by signal 11 (Segmentation fault)"
        assert status.paths == {"vllm": f"plain: {why}"}
        assert status.runtimes["fake"] == "1.2.3"
        assert "stub/vllm/platforms.py" in running.log, "the log says where"


async def test_without_a_fallback_a_broken_fast_path_makes_the_runtime_unavailable(folder):
    stub = stub_vllm.write_stub(folder / "stub")
    with launcher(folder, BOTH, "--vllm-path", "fast", first_on_path=stub) as running:
        status = await running.ready()
        assert status.runtimes["vllm"] == "unavailable: vllm.platforms has moved"
        assert status.paths == {}


async def test_an_engine_on_the_plain_server_from_its_order_to_its_end(plain, model):
    await plain.ready()
    ordered = order(plain.folder, "plain", runtime="vllm", source=model, max_num_seqs=3)
    engine = await plain.start(ordered)
    assert engine.status.detail["path"] == "plain"
    assert "vllm.platforms has moved" in engine.status.detail["reason"]
    assert engine.status.measured.weights_bytes == 8
    assert {"arguments", "server", "ready"} <= engine.status.timings_s.keys()
    status, told = await call(ordered.http_path, "/v1/models?limit=2", method="GET")
    assert (status, told["path"]) == (200, "/v1/models?limit=2")
    words = told["arguments"]
    assert words[words.index("--model") + 1] == str(model)
    assert words[words.index("--served-model-name") + 1 :][:2] == ["some-model", "some-model-alias"]
    assert "--max-num-seqs=3" in words
    assert await call(ordered.http_path, "/v1/completions", {"prompt": "x"}) == (200, {"said": '{"prompt": "x"}'})
    with pytest.raises(EngineError, match="nothing to give back on a CPU: stop it instead"):
        await engine.call("sleep")
    assert (await engine.call("status")).state == "ready"
    below = processes_below(engine.status.pid)
    assert told["pid"] in below
    await engine.call("stop")
    await engine.closed.wait()
    for pid in (engine.status.pid, *below):
        await until_gone(pid)
    assert not list(plain.folder.glob("plain.http*"))


@pytest.mark.parametrize("victim", ["engine", "keeper"])
async def test_whoever_is_killed_the_server_goes_too(plain, model, victim):
    await plain.ready()
    engine = await plain.start(order(plain.folder, "killed", runtime="vllm", source=model))
    below = processes_below(engine.status.pid)
    os.kill(engine.status.pid if victim == "engine" else below[0], signal.SIGKILL)
    await asyncio.wait_for(engine.closed.wait(), 20)
    for pid in (engine.status.pid, *below):
        await until_gone(pid)


async def test_a_server_that_dies_while_it_serves_is_one_clear_sentence(plain, model):
    await plain.ready()
    engine = await plain.start(order(plain.folder, "dies", runtime="vllm", source=model))
    _, told = await call(engine.status.order.http_path, "/health", method="GET")
    os.kill(told["pid"], signal.SIGKILL)
    await asyncio.wait_for(engine.closed.wait(), 20)
    assert engine.status.error == "vLLM's server was killed by signal 9 (Killed): see the engine's log"


@pytest.mark.parametrize(
    ("engine_args", "said"),
    [
        ({"host": "0.0.0.0"}, "engine_args.host cannot be set: engines listen on a private unix socket only"),
        ({"tensor_parallel_size": 2}, "engine_args.tensor_parallel_size must be 1: an engine has one GPU"),
        ({"load_format": "pt"}, "engine_args.load_format pt may read pickled weights, which can run code"),
        ({"fail_to_start": True}, "the model's architecture ['Odd'] is not supported by this vLLM"),
    ],
)
async def test_a_start_that_cannot_succeed_is_one_clear_sentence(plain, model, engine_args, said):
    await plain.ready()
    with pytest.raises(EngineError) as told:
        await plain.start(order(plain.folder, "wrong", runtime="vllm", source=model, **engine_args))
    assert str(told.value) == said

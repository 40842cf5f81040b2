"""An order as vLLM's command line, read by vLLM's own parser."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.protocol import Device, EngineError
from models.runtimes.vllm.args import command_line, known_arguments, parse
from tests.models.runtimes.adapters import make_adapter
from tests.models.runtimes.orders import MIB
from tests.models.runtimes.orders import order as order_in

HERE = Path("/run/x")


def order(**engine_args):
    return order_in(HERE, source="/models/tiny", **engine_args)


def test_what_every_engine_on_a_cpu_gets():
    args = parse(order())
    assert args.model == "/models/tiny"
    assert args.served_model_name == ["some-model", "some-model-alias"]
    assert args.kv_cache_memory_bytes == 64 * MIB
    assert args.max_model_len == -1  # as much as fits
    assert args.enforce_eager
    assert args.load_format == "roundhouse"
    assert args.distributed_executor_backend == "uni"
    assert not args.enable_sleep_mode
    assert not args.enable_log_requests
    assert (args.enable_auto_tool_choice, args.tool_call_parser) == (True, "hermes")


def test_a_gpus_share_is_what_the_ledger_has_reserved():
    ordered = order_in(
        HERE, source="/models/tiny", device=Device(kind="cuda", uuid="GPU-1", memory_bytes=1000 * MIB, simulated=False)
    )
    args = parse(ordered)
    assert args.gpu_memory_utilization == 0.08  # 16 + 64 MiB
    assert args.enable_sleep_mode
    assert args.kv_cache_memory_bytes == 64 * MIB
    assert not args.enforce_eager


def test_a_reservation_beyond_the_gpu_is_refused():
    ordered = order_in(HERE, device=Device(kind="cuda", uuid="GPU-1", memory_bytes=MIB, simulated=False))
    with pytest.raises(EngineError, match="do not fit a device"):
        parse(ordered)


def test_a_cpu_engine_without_a_budget_does_not_take_the_machine():
    assert parse(order_in(HERE, kv_bytes=0)).kv_cache_memory_bytes == 0


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"max_model_len": 512}, "max_model_len", 512),
        ({"max-model-len": "1k"}, "max_model_len", 1000),
        ({"--max-num-seqs": 3}, "max_num_seqs", 3),
        ({"enforce_eager": False}, "enforce_eager", False),
        ({"enable_prefix_caching": False}, "enable_prefix_caching", False),
        ({"enable_prefix_caching": True}, "enable_prefix_caching", True),
        ({"quantization": None}, "quantization", None),
        ({"hf_overrides": {"rope_theta": 5.0}}, "hf_overrides", {"rope_theta": 5.0}),
        ({"tool_call_parser": "llama3_json"}, "tool_call_parser", "llama3_json"),
        ({"enable_auto_tool_choice": False}, "enable_auto_tool_choice", False),
        ({"allowed_origins": ["https://a", "https://b"]}, "allowed_origins", ["https://a", "https://b"]),
        ({"load_format": "auto"}, "load_format", "roundhouse"),
        ({"load_format": "dummy"}, "load_format", "dummy"),
        ({"chat_template": "-- {{ x }} --"}, "chat_template", "-- {{ x }} --"),
        ({"kv_cache_memory_bytes": 5 * MIB}, "kv_cache_memory_bytes", 5 * MIB),
        ({"tensor_parallel_size": 1}, "tensor_parallel_size", 1),
    ],
)
def test_engine_args_are_vllms_own_by_any_spelling(given, name, value):
    assert getattr(parse(order(**given)), name) == value


def test_a_plain_server_gets_a_load_format_that_it_knows():
    words = command_line(order())
    assert "--load-format=safetensors" in words
    assert not any("roundhouse" in word for word in words)


def test_the_loader_is_told_where_layouts_are(tmp_path):
    ordered = order(model_loader_extra_config={"enable_multithread_load": True})
    ordered = msgspec.structs.replace(ordered, layout_dir=str(tmp_path), cold=True)
    assert parse(ordered).model_loader_extra_config == {
        "enable_multithread_load": True,
        "roundhouse": {"layout_dir": str(tmp_path), "cold": True},
    }


@pytest.mark.parametrize("load_format", ["safetensors", "runai_streamer"])
def test_another_load_format_is_left_alone(load_format):
    args = parse(order(load_format=load_format))
    assert args.load_format == load_format
    assert "roundhouse" not in (args.model_loader_extra_config or {})


BIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def with_overhead(folder, overhead_bytes, device=None, **engine_args):
    (folder / "config.json").write_text(json.dumps(BIG))
    ordered = order_in(HERE, source=folder, device=device, **engine_args)
    budget = msgspec.structs.replace(ordered.budget, overhead_bytes=overhead_bytes)
    return msgspec.structs.replace(ordered, budget=budget)


def test_a_batch_is_held_down_to_what_the_budget_has_for_it(tmp_path):
    args = parse(with_overhead(tmp_path, 64 * MIB))
    assert (args.max_num_batched_tokens, args.max_num_seqs) == (135, 14)
    assert parse(with_overhead(tmp_path, 1024 * MIB)).max_num_seqs is None


def test_on_a_gpu_its_context_comes_off_first(tmp_path):
    gpu = Device(kind="cuda", uuid="GPU-1", memory_bytes=8192 * MIB, simulated=False)
    args = parse(with_overhead(tmp_path, 664 * MIB, gpu))
    assert (args.max_num_batched_tokens, args.max_num_seqs) == (271, 14)


def test_a_card_that_sets_the_batch_knows_best(tmp_path):
    args = parse(with_overhead(tmp_path, 64 * MIB, max_num_seqs=99))
    assert (args.max_num_seqs, args.max_num_batched_tokens) == (99, None)


def test_no_tool_calls_means_no_parser_for_them():
    assert parse(order(enable_auto_tool_choice=False)).tool_call_parser is None


def test_json_settings_can_be_set_by_their_parts():
    assert parse(order(**{"compilation_config.mode": 0})).compilation_config.mode == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_modle_len": 5}, "engine_args.max_modle_len is not a vLLM argument; did you mean max_model_len?"),
        ({"zzz": 5}, "engine_args.zzz is not a vLLM argument"),
        ({"max_num_seqs": "many"}, "engine_args.max_num_seqs: invalid int value: 'many'"),
        ({"dtype": "float7"}, "engine_args.dtype: invalid choice: 'float7'"),
        ({"port": 8000}, "engine_args.port cannot be set: engines listen on a private unix socket only"),
        ({"gpu-memory-utilization": 0.9}, "engine_args.gpu_memory_utilization cannot be set: it follows from"),
        ({"tensor_parallel_size": 2}, "engine_args.tensor_parallel_size must be 1: an engine has one GPU"),
        ({"load_format": "pt"}, "engine_args.load_format pt may read pickled weights, which can run code"),
        ({"enable_log_outputs": True}, "engine_args: --enable-log-outputs requires --enable-log-requests"),
    ],
)
def test_a_wrong_argument_is_named(given, said):
    with pytest.raises(EngineError) as told:
        parse(order(**given))
    assert str(told.value).startswith(said)


@given(st.text(min_size=1, max_size=30))
def test_no_made_up_name_gets_through(name):
    plain = name.lstrip("-").replace("-", "_").partition(".")[0]
    if plain not in known_arguments():
        with pytest.raises(EngineError, match="engine_args"):
            command_line(order(**{name: 1}))


@pytest.fixture
def adapters(tmp_path):
    model = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(model))
    return {name: make_adapter(tmp_path / name, tmp_path, rank=rank) for name, rank in (("a", 4), ("b", 12))}


def test_adapters_are_told_with_their_names_and_room_for_the_largest(adapters):
    args = parse(order(adapters=adapters))
    told = [(module.name, module.path, module.base_model_name) for module in args.lora_modules]
    assert told == [(name, str(folder), "some-model") for name, folder in adapters.items()]
    assert (args.enable_lora, args.max_lora_rank) == (True, 16)


def test_on_a_cpu_one_place_for_adapters_stays_empty_and_on_a_gpu_a_card_may_have_fewer(adapters):
    assert parse(order(adapters=adapters)).max_loras == 3
    assert parse(order(adapters=adapters, max_loras=5)).max_loras == 5
    with pytest.raises(EngineError, match="max_loras must be at least 3"):
        parse(order(adapters=adapters, max_loras=2))
    device = Device(kind="cuda", uuid="GPU-1", memory_bytes=1000 * MIB, simulated=False)
    assert parse(order(adapters=adapters, device=device)).max_loras == 2
    assert parse(order(adapters=adapters, device=device, max_loras=1)).max_loras == 1


def test_without_adapters_nothing_is_said_of_them():
    assert not parse(order()).enable_lora
    with pytest.raises(EngineError, match="lora_modules cannot be set"):
        parse(order(lora_modules=["a=/x"]))


def test_an_adapter_that_vllm_could_not_take_is_refused(adapters):
    config = adapters["a"] / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 1024'))
    with pytest.raises(EngineError, match="rank 1024, and vLLM takes at most 512"):
        parse(order(adapters=adapters))

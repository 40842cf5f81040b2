"""An engine order as vLLM's own command line, so that an engine takes exactly what ``vllm serve`` takes."""

from __future__ import annotations

import argparse
import difflib
import functools
import json
from pathlib import Path
from typing import Any, NoReturn

from models.cuda.sleep import ARGUMENT as SLEEP
from models.cuda.sleep import choice_of
from models.runtimes.model_folder import read_config, read_json
from models.runtimes.protocol import EngineError, EngineOrder
from models.runtimes.vllm.batch import CUDA_CONTEXT_BYTES, CUDA_SLACK, HEAP_SLACK, batch_limits

# What the launcher, the ledger or the host decides; a card cannot.
DECIDED = {
    "model": "it is the card's model_source",
    "model_tag": "it is the card's model_source",
    "served_model_name": "it is the card's model_id and aliases",
    "gpu_memory_utilization": "it follows from the card's declared memory",
    "enable_sleep_mode": "it is always on where the device can",
    "distributed_executor_backend": "an engine is one process",
    "config": "write its settings as engine_args",
    "lora_modules": "they are the card's adapters",
} | dict.fromkeys(
    ("host", "port", "uds", "grpc", "grpc_port", "headless", "api_server_count", "root_path", "api_key"),
    "engines listen on a private unix socket only",
)
ONE_GPU = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "nnodes")
UNPICKLED_FORMATS = ("auto", "safetensors", "fastsafetensors", "runai_streamer", "sharded_state", "dummy")

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM takes
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

LOAD_FORMAT = "roundhouse"  # vllm_loader's, and its part of --model-loader-extra-config
DEFAULT_TOOL_PARSER = "hermes"


def command_line(order: EngineOrder) -> list[str]:
    """The arguments of ``vllm serve`` for the order, ``engine_args`` last so that they win over defaults.

    Raises EngineError naming the field.
    """
    given = {_plain(key): value for key, value in order.engine_args.items()}
    choice_of(given, "vllm")
    given.pop(SLEEP, None)  # for us, not for vLLM
    _check(given)
    settings = _defaults(order) | _limits(order, given) | _adapters(order, given) | given
    if settings.get("load_format") == "auto":
        settings["load_format"] = "safetensors"
    if settings.get("enable_auto_tool_choice") is False and "tool_call_parser" not in given:
        del settings["tool_call_parser"]
    words = ["--model", order.source, "--served-model-name", *order.served_names]
    for key, value in settings.items():
        words += _words(key, value)
    return words


def parse(order: EngineOrder) -> argparse.Namespace:
    """vLLM's own reading of the order. Raises EngineError in one sentence that names the field."""
    from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args

    parsed: argparse.Namespace = parser().parse_args(command_line(order))
    try:
        validate_parsed_serve_args(parsed)
    except (TypeError, ValueError) as problem:
        raise EngineError(f"engine_args: {str(problem).removeprefix('Error: ')}") from problem
    if _plain_keys(order).get("load_format", "auto") == "auto":  # a card may insist on vLLM's own
        # Not on the command line: a plain ``vllm serve`` does not know it.
        parsed.load_format = LOAD_FORMAT
        ours = {"layout_dir": order.layout_dir, "cold": order.cold}
        parsed.model_loader_extra_config = {**(parsed.model_loader_extra_config or {}), LOAD_FORMAT: ours}
    return parsed


@functools.cache
def parser() -> Any:
    """vLLM's argument parser; building it takes 0.1 s, so the launcher does it once."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class RaisingParser(FlexibleArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise EngineError(_sentence(message))

    made: Any = RaisingParser  # vLLM leaves its constructor untyped
    return make_arg_parser(made(prog="vllm serve"))


@functools.cache
def known_arguments() -> dict[str, argparse.Action]:
    """By name with underscores, as cards write them.

    Empty for a vLLM whose parser is not where it is expected: then its own server has to judge the names.
    """
    try:
        actions = parser()._actions
    except (ImportError, AttributeError):
        return {}
    return {
        _plain(option): action
        for action in actions
        for option in action.option_strings
        if option.startswith("--") and action.dest != "help" and not option.startswith("--no-")
    }


def _plain_keys(order: EngineOrder) -> dict[str, Any]:
    return {_plain(key): value for key, value in order.engine_args.items()}


def _plain(key: str) -> str:
    return key.lstrip("-").replace("-", "_")


def _check(given: dict[str, Any]) -> None:
    for key, value in given.items():
        if key in DECIDED:
            raise EngineError(f"engine_args.{key} cannot be set: {DECIDED[key]}")
        if key in ONE_GPU and value not in (None, 1):
            raise EngineError(f"engine_args.{key} must be 1: an engine has one GPU")
        if key == "load_format" and value not in UNPICKLED_FORMATS:
            raise EngineError(f"engine_args.load_format {value} may read pickled weights, which can run code")
        name, _, _ = key.partition(".")
        if known_arguments() and name not in known_arguments():
            close = difflib.get_close_matches(name, known_arguments(), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise EngineError(f"engine_args.{name} is not a vLLM argument{hint}")


def _defaults(order: EngineOrder) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "distributed_executor_backend": "uni",
        "disable_uvicorn_access_log": True,
        "load_format": "safetensors",
        "use_tqdm_on_load": False,
        # The longest that the model and its KV cache permit.
        "max_model_len": -1,
        "enable_auto_tool_choice": True,
        "tool_call_parser": DEFAULT_TOOL_PARSER,
    }
    if order.budget.kv_cache_bytes or order.device.kind == "cpu":  # without it, vLLM on a CPU takes most of the RAM
        settings["kv_cache_memory_bytes"] = order.budget.kv_cache_bytes
    if order.device.kind == "cuda":
        settings["gpu_memory_utilization"] = _share(order)
        settings["enable_sleep_mode"] = True
    else:
        # Compiling takes 20 s on a CPU and gains little there.
        settings["enforce_eager"] = True
    return settings


def _limits(order: EngineOrder, given: dict[str, Any]) -> dict[str, int]:
    """Of the batch, where the card sets none itself."""
    if {"max_num_seqs", "max_num_batched_tokens", "hf_overrides"} & given.keys() or not order.budget.overhead_bytes:
        return {}
    on_gpu = order.device.kind == "cuda"
    left_bytes = order.budget.overhead_bytes - (CUDA_CONTEXT_BYTES if on_gpu else 0)
    return batch_limits(read_config(Path(order.source)), left_bytes, CUDA_SLACK if on_gpu else HEAP_SLACK)


def _adapters(order: EngineOrder, given: dict[str, Any]) -> dict[str, Any]:
    """Room for all of them at once, for as large a rank as the largest has. Raises EngineError."""
    if not order.adapters:
        return {}
    ranks = [_rank(name, Path(folder)) for name, folder in order.adapters.items()]
    rank = next((rank for rank in LORA_RANKS if rank >= max(ranks)), None)
    if rank is None:
        raise EngineError(f"an adapter has the rank {max(ranks)}, and vLLM takes at most {LORA_RANKS[-1]}", "weights")
    modules = [{"name": name, "path": path, "base_model_name": order.model_id} for name, path in order.adapters.items()]
    slots = len(modules)
    if order.device.kind == "cpu":
        # vLLM's operators for the CPU take -1, which stands for no adapter, for the last slot: in a batch with others,
        # the model itself would speak as the last adapter does. So that one has to stay empty.
        slots += 1
        if given.get("max_loras", slots) < slots:
            raise EngineError(f"engine_args.max_loras must be at least {slots} for {len(modules)} adapters on a CPU")
    return {"enable_lora": True, "max_loras": slots, "max_lora_rank": rank, "lora_modules": modules}


def _rank(name: str, folder: Path) -> int:
    """Raises EngineError. Only safetensors: vLLM would unpickle what else there is."""
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise EngineError(f"the adapter {name} has no {ADAPTER_WEIGHTS} in {folder}", "weights")
    rank = read_json(folder / ADAPTER_CONFIG).get("r")
    if type(rank) is not int or rank < 1:
        raise EngineError(f"the adapter {name} says no rank (r) in its {ADAPTER_CONFIG}", "weights")
    return rank


def _share(order: EngineOrder) -> float:
    """Of the device's memory, what the ledger has reserved: vLLM checks at start that so much is free."""
    budget = order.budget
    reserved_bytes = budget.weights_bytes + budget.kv_cache_bytes + budget.overhead_bytes
    if not 0 < reserved_bytes <= order.device.memory_bytes:
        raise EngineError(
            f"the engine's {reserved_bytes} reserved bytes do not fit a device of {order.device.memory_bytes} bytes"
        )
    return round(reserved_bytes / order.device.memory_bytes, 4)


def _words(key: str, value: Any) -> list[str]:
    option = "--" + key.replace("_", "-")
    if value is None:
        return []
    if value is True:
        return [option]
    if value is False:
        return _negated(key, option)
    if isinstance(value, dict):
        return [option, json.dumps(value)]
    if isinstance(value, list | tuple):
        action = known_arguments().get(key)
        if action is None or action.nargs is None:
            return [option, json.dumps(value)]
        return [option, *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
    return [f"{option}={value}"]  # one word: the value may begin with a dash


def _negated(key: str, option: str) -> list[str]:
    """``--no-x`` where there is one; a plain flag is off when left out."""
    negation = "--no-" + option.removeprefix("--")
    action = known_arguments().get(key)
    unknown = not known_arguments()
    return [negation] if unknown or (action is not None and negation in action.option_strings) else []


def _sentence(message: str) -> str:
    """argparse's message with the card's way of naming the argument."""
    argument, separator, rest = message.removeprefix("argument ").partition(": ")
    if message.startswith("argument ") and separator:
        longest = max(argument.split("/"), key=len)
        return f"engine_args.{_plain(longest)}: {rest}"
    return f"engine_args: {message}"

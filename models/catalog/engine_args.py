"""Arguments that a card may hand to its engine. What the service decides itself, and code by name, is refused here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from pydantic import JsonValue

from models.catalog.errors import WrongValue

_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}(\.[a-z0-9_]{1,80}){0,4}", re.ASCII)  # vLLM takes compilation_config.level

# Set by the service for every engine; a second opinion would make the ledger or the routes wrong.
_DECIDED: dict[str, str] = {
    "model": "name it in model_source",
    "served_model_name": "list other names under aliases",
    "host": "remove it: engines listen on their own sockets",
    "port": "remove it: engines listen on their own sockets",
    "uds": "remove it: engines listen on their own sockets",
    "api_key": "remove it: keys are checked by the gateway",
    "root_path": "remove it: the gateway sets the paths",
    "lora_modules": "list them under adapters",
    "gpu_memory_utilization": "state declared.kv_cache instead",
    "kv_cache_memory_bytes": "state declared.kv_cache instead",
}
# Each of these imports Python code that comes with the model or is named by it.
_RUNS_CODE = frozenset(
    {
        "trust_remote_code",
        "worker_cls",
        "worker_extension_cls",
        "scheduler_cls",
        "logits_processors",
        "tool_parser_plugin",
        "reasoning_parser_plugin",
        "middleware",
        "kv_connector_module_path",
        "ec_connector_module_path",
    }
)
_SAFE_LOAD_FORMATS = ("auto", "safetensors", "fastsafetensors", "runai_streamer", "sharded_state", "dummy")


def check_engine_args(args: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The same arguments with ``_`` for ``-`` in their names. Raises WrongValue."""
    checked: dict[str, JsonValue] = {}
    for given, value in args.items():
        name = plain_name(given)
        if not _NAME.fullmatch(name):
            raise WrongValue(f"{given[:60]!r} is not the name of an argument", "write it like max_model_len")
        if name in checked:
            raise WrongValue(f"{name} is given twice", "keep one of them", given)
        if name in _DECIDED:
            raise WrongValue("is decided by the service", _DECIDED[name], given)
        _check_value(name.rpartition(".")[2], value, given)
        checked[name] = value
    return checked


def plain_name(given: str) -> str:
    """``--max-model-len`` and ``max_model_len`` are the same argument."""
    return given.lstrip("-").replace("-", "_")


def _check_value(name: str, value: JsonValue, at: str) -> None:
    if name in _RUNS_CODE and value not in (False, None, []):
        raise WrongValue("would run code that comes with the model", "remove it: only the built-in code is run", at)
    if name == "load_format" and value not in _SAFE_LOAD_FORMATS:
        cure = f"use one of {', '.join(sorted(_SAFE_LOAD_FORMATS))}"
        raise WrongValue(f"{str(value)[:40]!r} may load pickled weights, which can run code", cure, at)
    if isinstance(value, float) and not math.isfinite(value):
        raise WrongValue(f"{value} is not a finite number", "write a finite number", at)
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_value(plain_name(key), inner, f"{at}.{key}")
    if isinstance(value, list):
        for index, inner in enumerate(value):
            _check_value("", inner, f"{at}[{index}]")

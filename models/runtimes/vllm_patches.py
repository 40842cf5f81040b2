"""The one place that changes vLLM's inside, and the list of every private name that the fast start rests on.

Written against vLLM 0.32. ``check_patch_points`` says what a different version has changed; the runtime refuses to
start on such a version rather than to misbehave.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.runtimes import kv_memory
from models.runtimes.inproc_client import InprocAsyncClient
from models.runtimes.protocol import EngineError


class KvTooSmall(Exception):
    """The KV cache cannot hold one sequence of the longest permitted length."""

    def __init__(self, usable_bytes: int, needed_bytes: int, holds_tokens: int, max_model_len: int) -> None:
        super().__init__(f"{usable_bytes} bytes hold {holds_tokens} tokens, {max_model_len} need {needed_bytes}")
        self.usable_bytes = usable_bytes
        self.needed_bytes = needed_bytes
        self.holds_tokens = holds_tokens
        self.max_model_len = max_model_len


@dataclass(frozen=True, slots=True)
class PatchPoint:
    """A function of vLLM by its place, with the parameters that the code here counts on."""

    module: str
    path: str  # dotted, below the module
    parameters: tuple[str, ...]
    replace: Callable[[Any], Any] | None = None  # old -> new; None: it is only called

    def __str__(self) -> str:
        return f"{self.module}.{self.path}"

    def holder(self) -> tuple[Any, str]:
        """What holds the name, and the name. Raises ImportError, AttributeError."""
        found: Any = importlib.import_module(self.module)
        *outer, name = self.path.split(".")
        for part in outer:
            found = getattr(found, part)
        return found, name


def _nothing(_old: Any) -> Any:
    return lambda: None


def _once_per_launcher(old: Any) -> Any:
    """Rebinding the kernels scans every loaded module, 0.35 s; children inherit what the warm-up has bound."""
    done: list[bool] = []

    def register() -> None:
        if not done:
            done.append(True)
            old()  # a class method, bound already

    return staticmethod(register)


def _in_this_process(_old: Any) -> Any:
    """Looking at a model class in a subprocess costs 7 s of imports; it is for processes that will fork with CUDA."""
    return lambda fn: fn()


def _tell_the_bytes(_old: Any) -> Any:
    def check(
        available_memory: int,
        get_needed_memory: Callable[[], int],
        max_model_len: int,
        estimate_max_model_len: Callable[[int], int],
    ) -> None:
        needed = get_needed_memory()
        if available_memory <= 0 or needed > available_memory:
            holds = estimate_max_model_len(available_memory) if available_memory > 0 else 0
            raise KvTooSmall(available_memory, needed, holds, max_model_len)

    return check


def _nothing_may_be_missing(old: Any) -> Any:
    """vLLM lets every linear layer of an unquantized model stay as allocated when its weights are not in the files."""

    def track(self: Any, model: Any, loaded_weights: set[str] | None, quantized: bool = False) -> None:
        if loaded_weights is not None and not quantized:
            weights = {name for name, _ in model.named_parameters() if name.endswith(".weight")}
            missing = sorted(weights - loaded_weights)
            if missing:
                raise ValueError(f"Following weights were not initialized from checkpoint: {{'{missing[0]}'}}")
        old(self, model, loaded_weights, quantized)

    return track


PATCHES = (
    PatchPoint(
        "vllm.v1.engine.core_client",
        "EngineCoreClient.make_async_mp_client",
        ("vllm_config", "executor_class", "log_stats", "client_addresses", "client_count", "client_index", "renderer"),
        lambda _old: staticmethod(InprocAsyncClient),
    ),
    # Each would walk the whole heap of imports, 1 s altogether; the launcher has frozen that heap already.
    PatchPoint("vllm.v1.engine.core", "freeze_gc_heap", (), _nothing),
    PatchPoint("vllm.entrypoints.launchers.utils.server_utils", "freeze_gc_heap", (), _nothing),
    PatchPoint("vllm.platforms.cpu", "CpuPlatform.register_triton_kernel_overrides", (), _once_per_launcher),
    PatchPoint("vllm.model_executor.models.registry", "_run_in_subprocess", ("fn",), _in_this_process),
    PatchPoint(
        "vllm.v1.worker.gpu_model_runner",
        "allocate_kv_cache",
        ("kv_cache_config", "device", "layout", "kernel_block_sizes"),
        kv_memory.mapped,
    ),
    PatchPoint(
        "vllm.model_executor.model_loader.default_loader",
        "DefaultModelLoader.track_weights_loading",
        ("self", "model", "loaded_weights", "quantized"),
        _nothing_may_be_missing,
    ),
    PatchPoint(
        "vllm.v1.core.kv_cache_utils",
        "_check_enough_kv_cache_memory",
        ("available_memory", "get_needed_memory", "max_model_len", "estimate_max_model_len"),
        _tell_the_bytes,
    ),
)

CALLED = (
    PatchPoint("vllm.v1.engine.core", "EngineCore.__init__", ("self", "vllm_config", "executor_class", "log_stats")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.step", ("self",)),
    PatchPoint("vllm.v1.engine.core", "EngineCore.post_step", ("self", "model_executed")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.preprocess_add_request", ("self", "request")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.add_request", ("self", "request", "request_wave")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.abort_requests", ("self", "request_ids")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.collective_rpc", ("self", "method", "timeout", "args", "kwargs")),
    PatchPoint("vllm.v1.engine.async_llm", "AsyncLLM.from_vllm_config", ("vllm_config",)),
    PatchPoint("vllm.entrypoints.launchers.app", "build_app", ("args", "supported_tasks", "model_config")),
    PatchPoint(
        "vllm.entrypoints.launchers.api_server.app_state",
        "init_app_state",
        ("engine_client", "state", "args", "supported_tasks"),
    ),
    PatchPoint("vllm.entrypoints.launchers.cli_args", "make_arg_parser", ("parser",)),
    PatchPoint("vllm.entrypoints.launchers.cli_args", "validate_parsed_serve_args", ("args",)),
)

# What AsyncLLM may ask of its client beyond ``InprocAsyncClient``: all of it for features that need more processes.
NEVER_ASKED = frozenset({"prepare_elastic_ep", "commit_elastic_ep", "handle_fault", "get_status"})

_applied: list[bool] = []


def check_patch_points() -> list[str]:
    """One sentence for each name that this vLLM has not or has otherwise; empty when all is as expected."""
    problems = [problem for point in (*PATCHES, *CALLED) if (problem := _problem_with(point))]
    return problems or _problems_with_the_client()


def apply() -> None:
    """Patch this process, once. Raises EngineError naming what has changed."""
    if _applied:
        return
    problems = check_patch_points()
    if problems:
        raise EngineError(f"this version of vLLM is not supported: {'; '.join(problems)}")
    for point in PATCHES:
        if point.replace is not None:
            holder, name = point.holder()
            setattr(holder, name, point.replace(getattr(holder, name)))
    _applied.append(True)


def _problem_with(point: PatchPoint) -> str | None:
    try:
        holder, name = point.holder()
        function = getattr(holder, name)
    except (ImportError, AttributeError) as problem:
        return f"{point} is gone ({problem})"
    if _applied and point.replace is not None:
        return None
    there = tuple(inspect.signature(function).parameters)
    if there[: len(point.parameters)] != point.parameters:
        return f"{point} takes ({', '.join(there)}), expected ({', '.join(point.parameters)})"
    return None


def _problems_with_the_client() -> list[str]:
    """AsyncLLM's source says what it asks of its client."""
    source = inspect.getsource(importlib.import_module("vllm.v1.engine.async_llm"))
    asked = set(re.findall(r"\bengine_core\.(\w+)", source)) - NEVER_ASKED
    answered = {name for name in dir(InprocAsyncClient) if not name.startswith("_")}
    answered |= {"resources", "engine_ranks_managed"}
    core = importlib.import_module("vllm.v1.engine.core").EngineCore
    missing = sorted(
        name
        for name in asked - answered
        if not (name.endswith("_async") and callable(getattr(core, name.removesuffix("_async"), None)))
    )
    return [f"vllm.v1.engine.async_llm.AsyncLLM asks its client for {name}, which ours has not" for name in missing]

"""The one place that changes vLLM's inside, and the list of every private name that the fast start rests on.

Written against vLLM 0.32. ``check_patch_points`` says what a different version has changed; the runtime refuses to
start on such a version rather than to misbehave.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.runtimes.protocol import EngineError
from models.runtimes.vllm import kv_memory
from models.runtimes.vllm import linear as vllm_linear
from models.runtimes.vllm.inproc_client import InprocAsyncClient


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


def _once(old: Any) -> Any:
    """What comes out the same for all engines of a machine, or of a template."""
    return functools.cache(old)


def _once_static(old: Any) -> Any:
    return staticmethod(functools.cache(old))


def _once_per_config(old: Any) -> Any:
    """An engine has one configuration, and vLLM hashes it six times."""
    last: list[tuple[Any, ...]] = []

    def build(vllm_config: Any, mode: str = "full", custom_value: str | None = None) -> Any:
        asked = (vllm_config, mode, custom_value)
        if not last or last[0][0] is not vllm_config or last[0][1:3] != asked[1:]:
            last[:] = [(*asked, old(*asked))]
        return last[0][-1]

    return build


def _if_named(old: Any) -> Any:
    """Looks through every installed package for plugins that are only loaded when VLLM_PLUGINS names them."""

    def load(supported_tasks: Any = None) -> Any:
        return old(supported_tasks) if os.environ.get("VLLM_PLUGINS") is not None else []

    return load


def _if_there_is_one(old: Any) -> Any:
    """A model for text alone has no processor; finding that out by trying to load one takes a while."""

    def look(tokenizer: Any, **named: Any) -> Any:
        folder = Path(tokenizer.name_or_path)
        files = ("processor_config.json", "preprocessor_config.json")
        return (
            old(tokenizer, **named) if not folder.is_dir() or any((folder / name).exists() for name in files) else None
        )

    return look


def _for_quantized_models(old: Any) -> Any:
    """Notes each layer's parameters, 5 ms, for reloading weights later, which nobody can ask for here."""

    def record(model: Any) -> None:
        from vllm.config import get_current_vllm_config

        if get_current_vllm_config().quant_config is not None:
            old(model)

    return record


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
    # Each of these costs 5 to 15 ms of every start.
    PatchPoint("vllm.v1.sample.logits_processor", "_load_logitsprocs_plugins", (), _once),
    PatchPoint("vllm.utils.cpu_resource_utils", "_get_cpu_list", (), _once),
    PatchPoint(
        "vllm.entrypoints.serve.utils.fingerprint",
        "build_system_fingerprint",
        ("vllm_config", "mode", "custom_value"),
        _once_per_config,
    ),
    PatchPoint(
        "vllm.entrypoints.anthropic.serving",
        "AnthropicServingMessages._detect_merge_inline_system",
        ("chat_template",),
        _once_static,
    ),
    PatchPoint("vllm.plugins", "load_endpoint_plugins", ("supported_tasks",), _if_named),
    PatchPoint("vllm.renderers.hf", "_try_get_processor_chat_template", ("tokenizer",), _if_there_is_one),
    PatchPoint(
        "vllm.model_executor.model_loader.utils",
        "record_metadata_for_reloading",
        ("model",),
        _for_quantized_models,
    ),
    PatchPoint(
        "vllm.model_executor.layers.utils",
        "dispatch_cpu_unquantized_gemm",
        ("layer", "remove_weight"),
        vllm_linear.choosable,
    ),
)

_DEFAULT_LOADER = "vllm.model_executor.model_loader.default_loader"
_LOADING = "vllm.model_executor.model_loader.utils"
_VOCABULARY = "vllm.model_executor.layers.vocab_parallel_embedding"

CALLED = (
    PatchPoint("vllm.v1.engine.core", "EngineCore.__init__", ("self", "vllm_config", "executor_class", "log_stats")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.step", ("self",)),
    PatchPoint("vllm.v1.engine.core", "EngineCore.post_step", ("self", "model_executed")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.preprocess_add_request", ("self", "request")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.add_request", ("self", "request", "request_wave")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.abort_requests", ("self", "request_ids")),
    PatchPoint("vllm.v1.engine.core", "EngineCore.collective_rpc", ("self", "method", "timeout", "args", "kwargs")),
    PatchPoint("vllm.v1.executor.uniproc_executor", "UniProcExecutor.execute_model", ("self", "scheduler_output")),
    PatchPoint("vllm.v1.engine.async_llm", "AsyncLLM.from_vllm_config", ("vllm_config",)),
    PatchPoint("vllm.entrypoints.launchers.app", "build_app", ("args", "supported_tasks", "model_config")),
    PatchPoint(
        "vllm.entrypoints.launchers.api_server.app_state",
        "init_app_state",
        ("engine_client", "state", "args", "supported_tasks"),
    ),
    PatchPoint("vllm.entrypoints.launchers.cli_args", "make_arg_parser", ("parser",)),
    # The loader's
    PatchPoint("vllm.model_executor.model_loader", "register_model_loader", ("load_format",)),
    PatchPoint(_DEFAULT_LOADER, "DefaultModelLoader.__init__", ("self", "load_config")),
    PatchPoint(_DEFAULT_LOADER, "DefaultModelLoader.load_weights", ("self", "model", "model_config")),
    PatchPoint(_DEFAULT_LOADER, "DefaultModelLoader.get_all_weights", ("self", "model_config", "model")),
    PatchPoint(_LOADING, "initialize_model", ("vllm_config", "prefix", "model_class", "model_config")),
    PatchPoint(_LOADING, "process_weights_after_loading", ("model", "model_config", "target_device")),
    PatchPoint(_LOADING, "get_architecture_class_name", ("model_config",)),
    PatchPoint("vllm.utils.torch_utils", "set_default_torch_dtype", ("dtype",)),
    PatchPoint("vllm._custom_ops", "weight_packed_linear_cpu", ("x", "packed_weight", "n", "bias")),
    PatchPoint("vllm.model_executor.layers.linear", "UnquantizedLinearMethod", ()),
    PatchPoint("vllm.model_executor.layers.quantization.base_config", "QuantizeMethodBase", ()),
    PatchPoint(_VOCABULARY, "UnquantizedEmbeddingMethod", ()),
    PatchPoint(_VOCABULARY, "VocabParallelEmbedding", ("num_embeddings", "embedding_dim")),
    PatchPoint(_VOCABULARY, "ParallelLMHead", ("num_embeddings", "embedding_dim")),
    # The canary's
    PatchPoint("vllm.v1.engine", "EngineCoreRequest", ("request_id", "prompt_token_ids")),
    PatchPoint("vllm", "PoolingParams.verify", ("self", "model_config")),
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
    _register_loader()
    _applied.append(True)


def _register_loader() -> None:
    from vllm.model_executor.model_loader import register_model_loader

    from models.runtimes.vllm.args import LOAD_FORMAT
    from models.runtimes.vllm.loader import RoundhouseLoader

    register_model_loader(LOAD_FORMAT)(RoundhouseLoader)


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

"""Runtime "vllm": vLLM's engine and its whole OpenAI server in one forked, already warm process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.metadata
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.runtimes import model_folder
from models.runtimes.proc import private_bytes, trim_heap
from models.runtimes.protocol import Asgi, EngineError, EngineOrder, Measured

WATCH_PERIOD_S = 0.2
RESET_TRIES = 50
RESET_PAUSE_S = 0.02

log = logging.getLogger("roundhouse.engine")

# What a first engine or a first request would import. Architectures beyond these cost their import when first seen.
PREIMPORTED = (
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.on",
    "vllm.v1.engine.core",
    "vllm.v1.engine.async_llm",
    "vllm.entrypoints.launchers.app",
    "vllm.entrypoints.launchers.api_server.app_state",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.models.gemma",
    "vllm.model_executor.models.gemma2",
    "vllm.model_executor.models.gemma3",
    "vllm.model_executor.models.bert",
    "transformers.models.llama.configuration_llama",
    "transformers.models.qwen2.configuration_qwen2",
    "transformers.models.qwen3.configuration_qwen3",
    "transformers.models.gemma.configuration_gemma",
    "transformers.models.gemma2.configuration_gemma2",
    "transformers.models.gemma3.configuration_gemma3",
    "transformers.models.bert.configuration_bert",
)
WORKERS = {"cpu": "vllm.v1.worker.cpu_worker", "cuda": "vllm.v1.worker.gpu_worker"}

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else the CPU platform insists on worker processes
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # many engines share the cores
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",  # of the launcher; engines say more, to their own logs
    "GLOO_SOCKET_IFNAME": "lo",  # an engine is a process group of one, yet gloo listens for others
    "TOKENIZERS_PARALLELISM": "false",  # its threads would be missing in a forked child
}
# Each would undo what the order says: open endpoints, another KV cache, a key that the gateway does not know.
UNWANTED = ("VLLM_SERVER_DEV_MODE", "VLLM_CPU_KVCACHE_SPACE", "VLLM_API_KEY")


class VllmRuntime:
    name = "vllm"

    def version(self) -> str:
        for distribution in ("vllm", "vllm-cpu"):
            try:
                return importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
        raise ImportError("vllm is not installed")

    def preimport(self) -> None:
        os.environ.update(ENVIRONMENT)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        for key in UNWANTED:
            os.environ.pop(key, None)
        from vllm.platforms import current_platform

        from models.runtimes import vllm_args, vllm_patches

        platform = "cpu" if current_platform.is_cpu() else "cuda"
        if platform == "cpu":
            # Small functions need no C++ compiler, and the first request that uses one need not wait for it (1 to 5 s).
            current_platform.simple_compile_backend = "eager"
        for module in (WORKERS[platform], *PREIMPORTED):
            importlib.import_module(module)
        vllm_patches.apply()
        vllm_args.known_arguments()

    def warm(self, scratch: str) -> None:
        from models.runtimes.vllm_warm import warm

        warm(Path(scratch))

    async def load(self, order: EngineOrder) -> VllmEngine:
        """Raises EngineError."""
        from models.runtimes.vllm_failures import explain

        talker = logging.getLogger("vllm")
        talker.setLevel(logging.INFO)
        for handler in talker.handlers:
            handler.setLevel(logging.INFO)
        try:
            return await load(order)
        except Exception as problem:
            raise explain(problem, order) from problem


async def load(order: EngineOrder) -> VllmEngine:
    """Raises EngineError for what it can name itself, and whatever vLLM raises."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.v1.engine.async_llm import AsyncLLM

    from models.runtimes import vllm_args

    phases = _Phases()
    _look_at(order)
    args = vllm_args.parse(order)
    phases.done("arguments")
    with _no_collections(), _passing_folder():
        # Off the main thread: what computes there would need OpenMP workers that fork has not brought along.
        config = await asyncio.to_thread(AsyncEngineArgs.from_cli_args(args).create_engine_config)
        phases.done("config")
        llm = await asyncio.to_thread(AsyncLLM.from_vllm_config, config, disable_log_stats=args.disable_log_stats)
        phases.done("engine")
        tasks = await llm.get_supported_tasks()
        app = build_app(args, tasks, llm.model_config)
        await init_app_state(llm, app.state, args, tasks)
        phases.done("app")
    return VllmEngine(order, llm, app, args, phases.timings_s)


@contextmanager
def _passing_folder() -> Iterator[None]:
    """vLLM leaves a rendezvous file in the temporary folder at every start, of no use once it has started."""
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def _look_at(order: EngineOrder) -> None:
    """Name what is wrong with the folder before vLLM stumbles over it."""
    folder = Path(order.source)
    model_folder.read_config(folder)
    if order.engine_args.get("load_format") != "dummy":
        model_folder.weight_files(folder)
    if not {"tokenizer", "skip_tokenizer_init", "skip-tokenizer-init"} & order.engine_args.keys():
        model_folder.check_tokenizer(folder)


class _Phases:
    """Durations of consecutive phases."""

    def __init__(self) -> None:
        self.timings_s: dict[str, float] = {}
        self._since_s = time.monotonic()

    def done(self, phase: str) -> None:
        now_s = time.monotonic()
        self.timings_s[phase] = now_s - self._since_s
        self._since_s = now_s


@contextmanager
def _no_collections() -> Iterator[None]:
    """Nearly all that a start allocates stays; looking for garbage in it only costs time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class VllmEngine:
    """A running AsyncLLM with its OpenAI application."""

    def __init__(
        self, order: EngineOrder, llm: Any, app: Asgi, args: argparse.Namespace, timings_s: dict[str, float]
    ) -> None:
        self.app = app
        self.timings_s = timings_s
        self._order = order
        self._llm = llm
        self._asleep = False
        self._weights_bytes = _weights_bytes(llm, Path(order.source))

    async def sleep(self) -> None:
        if self._on_gpu:
            await self._llm.sleep(level=1)
        else:
            await self._forget_prefixes()
            _release_kv_pages()
        trim_heap()
        self._asleep = True

    async def _forget_prefixes(self) -> None:
        """Of requests whose clients have left, the engine may still hold some for a step or two."""
        for _ in range(RESET_TRIES):
            if await self._llm.reset_prefix_cache():
                return
            await asyncio.sleep(RESET_PAUSE_S)
        raise EngineError("it cannot sleep: requests still hold its KV cache")

    async def wake(self) -> None:
        """On the CPU nothing is to be done: the cache's pages come back, as zeros, when they are written."""
        if self._on_gpu:
            await self._llm.wake_up()
        self._asleep = False

    def measured(self) -> Measured:
        """Weights and cache as they lie on the device, simulated or not; asleep, only host memory is left."""
        if self._asleep:
            return Measured(weights_bytes=0, kv_cache_bytes=0, rss_bytes=private_bytes())
        return Measured(weights_bytes=self._weights_bytes, kv_cache_bytes=self._kv_bytes(), rss_bytes=private_bytes())

    def describe(self) -> dict[str, str]:
        return {"path": "fast", "weights": "copied"}

    async def watch(self) -> str:
        core = self._llm.engine_core
        while not core.died.is_set():
            await asyncio.sleep(WATCH_PERIOD_S)
        return f"the engine broke while it served ({type(core.death).__name__}): see its log"

    def end_threads(self) -> None:
        """For the launcher's warm-up: leave no thread that a forked child would miss."""
        self._llm.shutdown()

    async def close(self) -> None:
        """Nothing: the process ends, which frees more and takes less time than any tear-down."""

    @property
    def _on_gpu(self) -> bool:
        return self._order.device.kind == "cuda"

    def _kv_bytes(self) -> int:
        config = self._llm.vllm_config.cache_config
        return int(config.kv_cache_memory_bytes or 0) if config.num_gpu_blocks else 0


def _weights_bytes(llm: Any, folder: Path) -> int:
    """Of parameters and buffers, each counted once, but at least what the files hold in the model's own type.

    On the CPU vLLM packs matrices into buffers of oneDNN's, which nobody can ask for their size.
    """
    model = llm.engine_core.core.model_executor.driver_worker.worker.model_runner.get_model()
    storages = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    in_files = model_folder.tensor_bytes(folder, llm.model_config.dtype.itemsize)
    return int(max(sum(storages.values()), in_files))


def _release_kv_pages() -> None:
    from models.runtimes import kv_memory

    kv_memory.release()

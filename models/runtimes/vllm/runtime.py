"""Runtime "vllm": vLLM's engine and its whole OpenAI server in one forked, already warm process."""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.metadata
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from models.cuda import vllm_sleep
from models.cuda.sleep import VLLM_ONLY, choice_of
from models.runtimes import model_folder
from models.runtimes.protocol import EngineError, EngineOrder

if TYPE_CHECKING:
    from models.runtimes.vllm.engine import VllmEngine

log = logging.getLogger("roundhouse.engine")

# The engine's thread and the server's share one interpreter, and hand it over at every token. With Python's own 5 ms
# a small model with 32 callers makes a third fewer tokens.
SWITCH_S = 0.0005

# What a first engine or a first request would import. Architectures beyond these cost their import when first seen.
PREIMPORTED = (
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
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
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",  # an allowed host must not lead on to another
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

        from models.runtimes.vllm import args as vllm_args
        from models.runtimes.vllm import patches as vllm_patches

        platform = "cpu" if current_platform.is_cpu() else "cuda"
        if platform == "cpu":
            # Small functions need no C++ compiler, and the first request that uses one need not wait for it (1 to 5 s).
            current_platform.simple_compile_backend = "eager"
        for module in (WORKERS[platform], *PREIMPORTED):
            importlib.import_module(module)
        vllm_patches.apply()
        vllm_args.known_arguments()

    def warm(self, scratch: str) -> None:
        from models.runtimes.vllm.warm import warm

        warm(Path(scratch))

    async def load(self, order: EngineOrder) -> VllmEngine:
        """Raises EngineError."""
        from models.runtimes.vllm.failures import explain

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

    from models.runtimes.vllm import args as vllm_args
    from models.runtimes.vllm.engine import VllmEngine
    from models.runtimes.vllm.tokenizer import hold_to_vocabulary

    phases = _Phases()
    sys.setswitchinterval(SWITCH_S)
    _look_at(order)
    args = vllm_args.parse(order)
    phases.done("arguments")
    with _no_collections(), _passing_folder():
        # Off the main thread: what computes there would need OpenMP workers that fork has not brought along.
        config = await asyncio.to_thread(AsyncEngineArgs.from_cli_args(args).create_engine_config)
        if order.device.kind == "cuda":
            choice = choice_of(order.engine_args, "vllm")
            vllm_sleep.choose_backend(config.model_config, own=choice in VLLM_ONLY)
        phases.done("config")
        llm = await asyncio.to_thread(AsyncLLM.from_vllm_config, config, disable_log_stats=args.disable_log_stats)
        hold_to_vocabulary(llm)
        phases.done("engine")
        tasks = await llm.get_supported_tasks()
        engine = VllmEngine(order, llm, tasks, phases.timings_s)
        verifying = asyncio.create_task(engine.verify())
        try:
            engine.app = build_app(args, tasks, llm.model_config)
            await init_app_state(llm, engine.app.state, args, tasks)
            phases.done("app")
        finally:
            await verifying
        phases.done("canary")
    engine.begin()
    return engine


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
        try:
            model_folder.weight_files(folder)
        except EngineError as problem:
            raise EngineError(str(problem), "weights") from problem
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

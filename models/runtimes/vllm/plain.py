"""Runtime "vllm", the plain way: vLLM's own server as a subprocess, for a vLLM whose fast path is broken.

It starts as slowly as vLLM does and shares nothing with other engines, but needs of vLLM only what ``vllm serve`` is.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import time
from pathlib import Path

from models.runtimes import model_folder
from models.runtimes.proc import private_bytes
from models.runtimes.protocol import Asgi, EngineError, EngineOrder, Measured
from models.runtimes.vllm import args as vllm_args
from models.runtimes.vllm.reverse_proxy import ReverseProxy
from models.runtimes.vllm.runtime import ENVIRONMENT, UNWANTED, VllmRuntime
from models.runtimes.vllm.server import ServerFailed, VllmServer, server_arguments

log = logging.getLogger("roundhouse.engine")

PREIMPORTED = (
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvicorn.lifespan.on",
)
TIER_TIMEOUT_S = 120.0  # for sleep and wake
WIDE_TYPES = ("float", "float32")
# With vLLM's developer mode, which sleep needs, its server also lets anybody run code in it: only this goes through.
PUBLIC = frozenset(
    (
        *("v1", "v2", "cohere", "inference", "invocations", "tokenize", "detokenize", "tokenizer_info", "pooling"),
        *("classify", "score", "rerank", "generative_scoring", "health", "ping", "metrics", "version", "load"),
    )
)


class PlainVllm:
    """``why``: what is wrong with the fast path, in words for operators."""

    name = "vllm"

    def __init__(self, why: str) -> None:
        self._why = why

    def version(self) -> str:
        """Raises ImportError."""
        server_arguments()
        return VllmRuntime().version()

    def preimport(self) -> None:
        """vLLM's parser, so that no engine has to import it to check its arguments."""
        os.environ.update(ENVIRONMENT)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        for key in UNWANTED:
            os.environ.pop(key, None)
        for module in PREIMPORTED:
            importlib.import_module(module)
        if not vllm_args.known_arguments():
            log.warning("vLLM's argument parser is not where it is expected: its server judges engine_args")

    def warm(self, scratch: str) -> None:
        """Nothing: what serves is another process."""

    async def load(self, order: EngineOrder) -> PlainEngine:
        """Raises EngineError."""
        began_s = time.monotonic()
        arguments = await asyncio.to_thread(_arguments, order)
        checked_s = time.monotonic()
        server = VllmServer(f"{order.http_path}.v")
        try:
            await server.start(arguments, _environment(order))
        except ServerFailed as problem:
            raise _explained(problem, order) from problem
        engine = PlainEngine(order, server, self._why)
        engine.timings_s = {"arguments": checked_s - began_s, "server": time.monotonic() - checked_s}
        return engine


class PlainEngine:
    """A healthy server and the way to it."""

    def __init__(self, order: EngineOrder, server: VllmServer, why: str) -> None:
        self.timings_s: dict[str, float] = {}
        self._order = order
        self._server = server
        self._why = why
        self._asleep = False
        self._weights_bytes = model_folder.tensor_bytes(Path(order.source), _float_bytes(order))
        self.app: Asgi = ReverseProxy(server.session, _is_public if _can_sleep(order) else lambda _path: True)

    async def sleep(self) -> None:
        """Raises EngineError where there is no GPU to give back."""
        if not _can_sleep(self._order):
            raise EngineError("an engine on vLLM's plain server has nothing to give back on a CPU: stop it instead")
        await self._server.tell("/sleep?level=1", TIER_TIMEOUT_S)
        self._asleep = True

    async def wake(self) -> None:
        if self._asleep:
            await self._server.tell("/wake_up", TIER_TIMEOUT_S)
        self._asleep = False

    def measured(self) -> Measured:
        held_bytes = private_bytes() + self._server.private_bytes()
        if self._asleep:
            return Measured(weights_bytes=0, kv_cache_bytes=0, rss_bytes=held_bytes)
        kv_bytes = int(self._order.engine_args.get("kv_cache_memory_bytes") or self._order.budget.kv_cache_bytes)
        return Measured(weights_bytes=self._weights_bytes, kv_cache_bytes=kv_bytes, rss_bytes=held_bytes)

    def describe(self) -> dict[str, str]:
        return {"path": "plain", "reason": self._why, "weights": "copied"}

    async def watch(self) -> str:
        return f"vLLM's server {await self._server.ended()}: see the engine's log"

    async def close(self) -> None:
        await self._server.close()


def _arguments(order: EngineOrder) -> list[str]:
    """For the server's command line. Raises EngineError for what can be seen to be wrong before it starts."""
    folder = Path(order.source)
    model_folder.read_config(folder)
    if order.engine_args.get("load_format") != "dummy":
        model_folder.weight_files(folder)
    if not {"tokenizer", "skip_tokenizer_init", "skip-tokenizer-init"} & order.engine_args.keys():
        model_folder.check_tokenizer(folder)
    words = vllm_args.command_line(order)
    if vllm_args.known_arguments():
        vllm_args.parse(order)
    return words


def _environment(order: EngineOrder) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in UNWANTED}
    developer = {"VLLM_SERVER_DEV_MODE": "1"} if _can_sleep(order) else {}
    return {**kept, **ENVIRONMENT, "VLLM_LOGGING_LEVEL": "INFO", **developer}


def _can_sleep(order: EngineOrder) -> bool:
    return order.device.kind == "cuda"


def _is_public(path: str) -> bool:
    return path.lstrip("/").partition("/")[0] in PUBLIC


def _float_bytes(order: EngineOrder) -> int:
    config = model_folder.read_config(Path(order.source))
    given = order.engine_args.get("dtype", "auto")
    named = config.get("torch_dtype") or config.get("dtype") if given == "auto" else given
    return 4 if named in WIDE_TYPES and given != "auto" else 2


def _explained(problem: ServerFailed, order: EngineOrder) -> EngineError:
    """In the sentences of the fast path where these can be had."""
    if problem.reason is None:
        return EngineError(f"{problem}: see the engine's log")
    try:
        from models.runtimes.vllm.failures import explain
    except ImportError:
        return EngineError(f"vLLM cannot load the model: {problem.reason}")
    return explain(RuntimeError(problem.reason), order)

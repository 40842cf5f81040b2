"""Runtime "torch": a Python class with ``load`` and ``predict`` behind the endpoint of its task."""

from __future__ import annotations

import asyncio
import difflib
import importlib
import importlib.metadata
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.runtimes import model_folder
from models.runtimes.proc import private_bytes, trim_heap
from models.runtimes.protocol import Asgi, EngineError, EngineOrder, Measured

if TYPE_CHECKING:
    from models.runtimes.torch_model import TorchModel

log = logging.getLogger("roundhouse.engine")

EMBEDDER = "models.runtimes.embedder:SentenceEmbedder"

# What serves a folder whose card names no class, by the architecture in its config.json.
CLASSES = dict.fromkeys(
    ("BertModel", "RobertaModel", "XLMRobertaModel", "DistilBertModel", "MPNetModel", "BertForMaskedLM"), EMBEDDER
)

ARGUMENTS = ("python_class", "max_batch")

PREIMPORTED = (
    "models.runtimes.embedder",
    "models.runtimes.embeddings_api",
    "models.runtimes.device_weights",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.on",
)


class TorchRuntime:
    name = "torch"

    def version(self) -> str:
        try:
            return importlib.metadata.version("torch")
        except importlib.metadata.PackageNotFoundError as problem:
            raise ImportError("torch is not installed") from problem

    def preimport(self) -> None:
        for module in PREIMPORTED:
            importlib.import_module(module)

    def warm(self, scratch: str) -> None:
        from models.runtimes.torch_warm import warm

        warm(Path(scratch))

    async def load(self, order: EngineOrder) -> TorchEngine:
        """Raises EngineError."""
        _check_arguments(order.engine_args)
        # One thread for all that computes, and not the main one: see warming.py.
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        began_s = time.monotonic()
        model = await asyncio.get_running_loop().run_in_executor(thread, _load, order)
        loaded_s = time.monotonic()
        engine = TorchEngine(order, model, thread)
        engine.timings_s = {"weights": loaded_s - began_s, "app": time.monotonic() - loaded_s}
        return engine


class TorchEngine:
    """A loaded model, its thread, and the application of its task."""

    def __init__(self, order: EngineOrder, model: TorchModel, thread: ThreadPoolExecutor) -> None:
        from models.runtimes.batcher import MOST_INPUTS, Batcher
        from models.runtimes.device_weights import DeviceWeights

        self.timings_s: dict[str, float] = {}
        self._thread = thread
        self._asleep = False
        self._weights = DeviceWeights(model.module, order.device.kind)
        self._weights_bytes = self._weights.size_bytes()
        batcher = Batcher(model.predict, thread, int(order.engine_args.get("max_batch") or MOST_INPUTS))
        self.app: Asgi = TASKS[model.task](model, batcher, order.served_names)

    async def sleep(self) -> None:
        await self._in_thread(self._weights.to_host)
        trim_heap()
        self._asleep = True

    async def wake(self) -> None:
        """Raises EngineError when the device has no room for the weights."""
        import torch

        try:
            await self._in_thread(self._weights.to_device)
        except torch.OutOfMemoryError as problem:
            raise EngineError("the device has no room for the weights") from problem
        self._asleep = False

    def measured(self) -> Measured:
        return Measured(
            weights_bytes=0 if self._asleep else self._weights_bytes, kv_cache_bytes=0, rss_bytes=private_bytes()
        )

    def describe(self) -> dict[str, str]:
        return {"path": "fast", "weights": "mapped"}

    async def watch(self) -> str:
        """It has no part of its own that could die before the process does."""
        await asyncio.Event().wait()
        return ""

    async def close(self) -> None:
        """Nothing: the process ends."""

    async def _in_thread(self, action: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, action)


def _embeddings(model: Any, batcher: Any, served_names: Sequence[str]) -> Asgi:
    from models.runtimes.embeddings_api import EmbeddingsApi

    return EmbeddingsApi(model, batcher, served_names).app()


# A model's task -> what builds the ASGI application that serves it.
TASKS: dict[str, Callable[[Any, Any, Sequence[str]], Asgi]] = {"embeddings": _embeddings}


def _check_arguments(given: dict[str, Any]) -> None:
    for key, value in given.items():
        if key not in ARGUMENTS:
            close = difflib.get_close_matches(key, ARGUMENTS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {' and '.join(ARGUMENTS)}"
            raise EngineError(f"engine_args.{key} is not an argument of the torch runtime; {hint}")
        if key == "max_batch" and (type(value) is not int or value < 1):
            raise EngineError("engine_args.max_batch must be a whole number above 0")


def _load(order: EngineOrder) -> TorchModel:
    """In the model's thread. Raises EngineError."""
    import torch

    folder = Path(order.source)
    name = order.engine_args.get("python_class") or _default_class(folder)
    model = _make(str(name))
    try:
        model.load(folder, order.device.kind)
    except EngineError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as problem:
        raise EngineError("the model does not fit: the device ran out of memory while it was loaded") from problem
    except Exception as problem:
        log.exception("%s.load failed", name)
        raise EngineError(f"{name} could not load the model: {problem}") from problem
    if model.task not in TASKS:
        raise EngineError(
            f"{name} is for the task {model.task!r}, which no endpoint serves: there is {', '.join(TASKS)}"
        )
    return model


def _default_class(folder: Path) -> str:
    architectures = model_folder.read_config(folder).get("architectures") or ["of no name"]
    for architecture in architectures:
        if architecture in CLASSES:
            return CLASSES[architecture]
    raise EngineError(
        f"the torch runtime has no class for the architecture {architectures[0]}:"
        " name yours as engine_args.python_class"
    )


def _make(name: str) -> TorchModel:
    module, separator, attribute = name.partition(":")
    if not separator:
        raise EngineError("engine_args.python_class must be written as package.module:Class")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except ImportError as problem:
        raise EngineError(f"engine_args.python_class: {module} cannot be imported ({problem})") from problem
    except AttributeError as problem:
        raise EngineError(f"engine_args.python_class: {module} has no {attribute}") from problem
    for method in ("load", "predict"):
        if not callable(getattr(made, method, None)):
            raise EngineError(f"engine_args.python_class: {attribute} has no method {method}")
    model: TorchModel = made
    return model

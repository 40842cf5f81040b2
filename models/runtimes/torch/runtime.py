"""Runtime "torch": a Python class with ``load`` and ``predict`` behind the endpoint of its task."""

from __future__ import annotations

import importlib
import importlib.metadata
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from models.runtimes import model_folder
from models.runtimes.cores.crew import own_crew
from models.runtimes.protocol import EngineError, EngineOrder
from models.runtimes.tasks.defaults import default_class
from models.runtimes.torch.arguments import Arguments

if TYPE_CHECKING:
    from models.runtimes.torch.engine import TorchEngine

PREIMPORTED = (
    "models.runtimes.tasks.sentence_embedder",
    "models.runtimes.tasks.cross_encoder",
    "models.runtimes.tasks.text_classifier",
    "models.runtimes.tasks.coordinate_painter",
    "models.runtimes.tasks.formant_voice",
    "models.runtimes.tasks.embeddings_api",
    "models.runtimes.tasks.rerank_api",
    "models.runtimes.tasks.classify_api",
    "models.runtimes.tasks.images_api",
    "models.runtimes.tasks.speech_api",
    "PIL.PngImagePlugin",
    "models.runtimes.torch.assembly",
    "models.runtimes.torch.load",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvicorn.lifespan.on",
)


class TorchRuntime:
    name = "torch"

    def __init__(self) -> None:
        self._living: WeakSet[TorchEngine] = WeakSet()  # several only in a shared process

    def version(self) -> str:
        try:
            return importlib.metadata.version("torch")
        except importlib.metadata.PackageNotFoundError as problem:
            raise ImportError("torch is not installed") from problem

    def preimport(self) -> None:
        for module in PREIMPORTED:
            importlib.import_module(module)

    def warm(self, scratch: str) -> None:
        from models.runtimes.torch.warm import warm

        warm(Path(scratch))

    async def load(self, order: EngineOrder) -> TorchEngine:
        """Raises EngineError."""
        import torch

        from models.runtimes.torch.assembly import assemble
        from models.runtimes.torch.load import load_model
        from models.runtimes.torch.model_thread import call_model, model_thread

        arguments = Arguments.read(order.engine_args)
        name = arguments.python_class or _class_for(Path(order.source))
        crew = own_crew() if order.device.kind == "cpu" else None
        thread = model_thread(partial(torch.set_grad_enabled, False), crew)
        what = f"{name.rpartition(':')[2]}.load"
        try:
            loaded = await call_model(thread, what, arguments.load_timeout, load_model, order, arguments, name)
            return assemble(order, arguments, loaded, thread, self._living)
        except BaseException:
            thread.shutdown(wait=False)
            raise


def _class_for(folder: Path) -> str:
    """What serves a folder whose card names no class. Raises EngineError."""
    config = model_folder.read_config(folder)
    found = default_class(config)
    if found is None:
        architectures = config.get("architectures") or ["of no name"]
        raise EngineError(
            f"the torch runtime has no class for the architecture {architectures[0]}:"
            " name yours as engine_args.python_class"
        )
    return found

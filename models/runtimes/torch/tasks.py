"""A model's task -> what builds the ASGI application that serves it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from models.runtimes.protocol import Asgi, EngineError

if TYPE_CHECKING:
    from models.runtimes.torch.batcher import Batcher
    from models.runtimes.torch.model import TorchModel

Build = Callable[["TorchModel", "Batcher", Sequence[str]], Asgi]  # model, batcher, served names

# By name, so that a task costs nothing where it is not served.
TASKS: dict[str, str] = {
    "embeddings": "models.runtimes.tasks.embeddings_api:build",
    "rerank": "models.runtimes.tasks.rerank_api:build",
    "classify": "models.runtimes.tasks.classify_api:build",
    "images": "models.runtimes.tasks.images_api:build",
    "speech": "models.runtimes.tasks.speech_api:build",
    "transcribe": "models.runtimes.tasks.transcriptions_api:build",
    "predict": "models.runtimes.tasks.predict_api:build",
}


def find_task(task: str, class_name: str) -> Build:
    """Raises EngineError when no endpoint serves ``task``."""
    if task not in TASKS:
        raise EngineError(
            f"{class_name} is for the task {task!r}, which no endpoint serves: there are {', '.join(TASKS)}", "code"
        )
    module, _, function = TASKS[task].partition(":")
    build: Build = getattr(importlib.import_module(module), function)
    return build

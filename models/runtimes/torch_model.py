"""What a class must offer to be served by the torch runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray


@runtime_checkable
class TorchModel(Protocol):
    """Any model: ``load`` once, then ``predict`` on batches, both always on the same thread.

    A class is named in a card as ``engine_args: {python_class: "package.module:Class"}`` and is made without arguments.
    """

    @property
    def task(self) -> str:
        """Which endpoint serves it, a key of ``torch_runtime.TASKS``. A class attribute will do."""

    @property
    def module(self) -> torch.nn.Module:
        """Its weights, which leave the device while it is asleep. An attribute that ``load`` sets will do."""

    def load(self, folder: Path, device: str) -> None:
        """Read the weights. ``device``: "cpu" or "cuda". Raise EngineError, or anything, when that cannot be done."""

    def predict(self, inputs: list[Any]) -> list[Any]:
        """One output for each input, in their order."""


@dataclass(frozen=True, slots=True)
class Embedding:
    vector: NDArray[np.float32]  # shape (dimensions,)
    tokens: int  # of the input, as the model saw them


@runtime_checkable
class EmbeddingModel(TorchModel, Protocol):
    """Task "embeddings": inputs are texts or lists of token ids, outputs ``Embedding``."""

    @property
    def dimensions(self) -> int: ...

    @property
    def vocabulary_size(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Longer inputs are cut."""

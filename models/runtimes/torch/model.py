"""What a class must offer to be served by the torch runtime, and what it may offer besides."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.runtimes.torch.weights import Weights


class BadInput(Exception):
    """Raise it from ``predict`` or ``stream`` when the input is to blame: its sender is told the message (400)."""


@runtime_checkable
class TorchModel(Protocol):
    """Any model: ``load`` once, then ``predict`` on batches, always on one thread that is the model's own.

    A class is named in a card as ``engine_args: {python_class: "package.module:Class"}`` and is made without
    arguments. Besides these three it may have, as methods or class attributes, what is in ``Optional``.
    """

    @property
    def task(self) -> str:
        """Which endpoint serves it, a key of ``models.runtimes.torch.tasks.TASKS``. A class attribute will do."""

    def load(self, device: torch.device, weights: Weights) -> None:
        """Get ready to compute on ``device``: usually ``self.net = weights.build(lambda: Net(...))``.

        Modules bound by ``weights``, and those among the instance's attributes, leave the device while it is asleep.
        Raise EngineError with a sentence for people, or anything.
        """

    def predict(self, batch: list[Any]) -> list[Any]:
        """One output for each input, in their order. Gradients are off.

        When it raises, halves of the batch are tried, until the input that is to blame stands alone.
        """


class Optional(Protocol):
    """Hooks that a class may have. Nothing derives from this; what a class lacks has the default told here."""

    batch_size: int  # most inputs of one ``predict`` (64); engine_args.max_batch goes before
    max_delay_s: float  # how long the first of a batch waits for company (0: an idle model begins at once)

    def batch_key(self, item: Any) -> Hashable:
        """Only inputs of equal keys share a batch, for example of one shape (default: all may)."""

    def stream(self, item: Any) -> Iterator[Any]:
        """Its output in pieces. Between two pieces batches and other streams may run; a leaving client closes it."""

    def on_cancel(self, item: Any) -> None:
        """The client of an input that is being streamed has left; called after the iterator was closed."""

    def example(self) -> Any:
        """An input whose output depends on nothing but the weights; the first output is kept and compared later.

        Numbers in the output may differ by a little; anything else must be equal. None: there is nothing to compare.
        """


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

"""Task "classify": what its models answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from models.runtimes.torch.model import TorchModel


@dataclass(frozen=True, slots=True)
class Classified:
    probabilities: tuple[float, ...]  # one for each of the model's labels; they add up to 1 where labels exclude others
    tokens: int  # of the input, as the model saw them


@runtime_checkable
class LabelModel(TorchModel, Protocol):
    """Inputs are texts, outputs ``Classified``."""

    @property
    def labels(self) -> Sequence[str]: ...

    @property
    def max_tokens(self) -> int:
        """Longer texts are cut."""

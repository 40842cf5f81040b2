"""Task "rerank": what its models are asked and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from models.runtimes.torch.model import TorchModel


@dataclass(frozen=True, slots=True)
class Pair:
    query: str
    document: str


@dataclass(frozen=True, slots=True)
class Score:
    value: float  # the higher, the better the document answers the query
    tokens: int  # of both texts, as the model saw them


@runtime_checkable
class PairModel(TorchModel, Protocol):
    """Inputs are ``Pair``, outputs ``Score``."""

    @property
    def max_tokens(self) -> int:
        """Longer pairs are cut."""

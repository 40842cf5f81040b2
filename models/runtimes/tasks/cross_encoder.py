"""A reranker as the sentence-transformers library has it: a cross-encoder that reads query and document together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch

from models.runtimes.protocol import EngineError
from models.runtimes.tasks.pairs import Pair, Score
from models.runtimes.tasks.sequence_head import SequenceHead
from models.runtimes.torch.weights import Weights

Activation = Callable[[torch.Tensor], torch.Tensor]


def _identity(logits: torch.Tensor) -> torch.Tensor:
    return logits


# By the last part of the name that sentence-transformers writes into config.json.
ACTIVATIONS: dict[str, Activation] = {"Sigmoid": torch.sigmoid, "Identity": _identity}


class CrossEncoder:
    """Any *ForSequenceClassification with one label. Its logit goes through a sigmoid unless config.json says else."""

    task: ClassVar[str] = "rerank"

    def __init__(self) -> None:
        self.max_tokens = 0
        self._head: SequenceHead
        self._activation: Activation = torch.sigmoid

    def load(self, device: torch.device, weights: Weights) -> None:
        """Raises EngineError."""
        self._head = SequenceHead(weights)
        self.max_tokens = self._head.max_tokens
        labels = int(self._head.config.num_labels)
        if labels != 1:
            raise EngineError(f"a reranker has one label, this model has {labels}: it is a classifier", "weights")
        self._activation = _activation(weights.config)

    def predict(self, batch: list[Any]) -> list[Any]:
        """``Pair`` to ``Score``."""
        logits, tokens = self._head.logits([(pair.query, pair.document) for pair in batch])
        values = self._activation(logits[:, 0]).tolist()
        return [Score(value, count) for value, count in zip(values, tokens, strict=True)]

    def example(self) -> Pair:
        return Pair("who keeps the book?", "The night foreman keeps a book of every movement.")


def _activation(config: Mapping[str, Any]) -> Activation:
    """Under ``sentence_transformers`` since version 4 of that library, by a name of its own before."""
    section = config.get("sentence_transformers")
    named = section.get("activation_fn") if isinstance(section, Mapping) else None
    named = named or config.get("sbert_ce_default_activation_function") or "Sigmoid"
    kind = str(named).rpartition(".")[2]
    if kind not in ACTIVATIONS:
        raise EngineError(f"config.json asks for the activation {named}, which the torch runtime has not", "weights")
    return ACTIVATIONS[kind]

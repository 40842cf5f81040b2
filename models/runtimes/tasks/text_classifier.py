"""A text classifier as transformers has it: *ForSequenceClassification, with the labels' names in config.json."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from models.runtimes.tasks.labels import Classified
from models.runtimes.tasks.sequence_head import SequenceHead
from models.runtimes.torch.weights import Weights


class TextClassifier:
    """Labels exclude each other (softmax) unless config.json's ``problem_type`` says else; one alone is a yes or no."""

    task: ClassVar[str] = "classify"

    def __init__(self) -> None:
        self.labels: tuple[str, ...] = ()
        self.max_tokens = 0
        self._head: SequenceHead
        self._problem: str | None = None

    def load(self, device: torch.device, weights: Weights) -> None:
        """Raises EngineError."""
        self._head = SequenceHead(weights)
        config = self._head.config
        self.max_tokens = self._head.max_tokens
        self.labels = tuple(str(config.id2label[index]) for index in range(int(config.num_labels)))
        self._problem = config.problem_type

    def predict(self, batch: list[Any]) -> list[Any]:
        """Texts to ``Classified``."""
        logits, tokens = self._head.logits(batch)
        rows = self._probabilities(logits).tolist()
        return [Classified(tuple(row), count) for row, count in zip(rows, tokens, strict=True)]

    def example(self) -> str:
        return "the night foreman keeps a book"

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        if self._problem == "regression":
            return logits  # a figure, not a probability; transformers leaves it as it is, too
        if self._problem == "multi_label_classification" or logits.shape[1] == 1:
            return logits.sigmoid()
        return logits.softmax(1)

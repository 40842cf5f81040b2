"""An encoder with a classification head (transformers' *ForSequenceClassification): one row of logits per input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from models.runtimes.tasks.text_encoder import Text, TextEncoder, passes
from models.runtimes.torch.weights import Weights


class SequenceHead:
    def __init__(self, weights: Weights) -> None:
        """Raises EngineError."""
        import transformers

        self.module: Any = weights.transformer(transformers.AutoModelForSequenceClassification)
        self.config: Any = self.module.config
        self._encoder = TextEncoder(weights.folder, self.config)
        self.max_tokens = self._encoder.max_tokens

    @torch.inference_mode()
    def logits(self, texts: Sequence[Text]) -> tuple[torch.Tensor, list[int]]:
        """Logits of shape (inputs, labels) in float32 on the CPU, and the tokens of each input."""
        rows = self._encoder.rows(texts)
        found = torch.empty(len(rows), int(self.config.num_labels))
        for chosen in passes(rows):
            tensors = self._encoder.tensors([rows[index] for index in chosen], self.module.device)
            found[chosen] = self.module(**tensors).logits.float().cpu()
        return found, [len(row) for row in rows]

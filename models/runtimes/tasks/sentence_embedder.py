"""Sentence embeddings as the sentence-transformers library makes them, from the same files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from models.runtimes import model_folder
from models.runtimes.protocol import EngineError
from models.runtimes.tasks.text_encoder import Row, TextEncoder, passes
from models.runtimes.torch.model import Embedding
from models.runtimes.torch.weights import Weights

MODULES = "modules.json"

Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # hidden (n, t, d), mask (n, t, 1) -> (n, d)


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


def _mean_sqrt(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1).sqrt()


def _first(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden[:, 0]


def _max(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(mask == 0, torch.finfo(hidden.dtype).min).amax(1)


# By the flags of 1_Pooling/config.json; several at once are put side by side, in this order.
POOLS: dict[str, Pool] = {
    "pooling_mode_cls_token": _first,
    "pooling_mode_max_tokens": _max,
    "pooling_mode_mean_tokens": _mean,
    "pooling_mode_mean_sqrt_len_tokens": _mean_sqrt,
}


class SentenceEmbedder:
    """BERT and its like with pooling on top, following modules.json; mean and unit length where there is none."""

    task: ClassVar[str] = "embeddings"

    def __init__(self) -> None:
        self.dimensions = 0
        self.vocabulary_size = 0
        self.max_tokens = 0
        self._module: Any = None
        self._encoder: TextEncoder
        self._pools: list[Pool] = []
        self._normalize = True
        self._lower = False

    def load(self, device: torch.device, weights: Weights) -> None:
        """Raises EngineError."""
        import transformers

        # Encoders are often saved without the head that nobody asks them for.
        self._module = weights.transformer(transformers.AutoModel, optional=("pooler",))
        config = self._module.config
        self._read_modules(weights.folder)
        path = weights.folder / "sentence_bert_config.json"
        settings = model_folder.read_json(path) if path.exists() else {}
        self._lower = bool(settings.get("do_lower_case"))
        self._encoder = TextEncoder(weights.folder, config, settings.get("max_seq_length"))
        self.max_tokens = self._encoder.max_tokens
        self.vocabulary_size = int(config.vocab_size)
        self.dimensions = int(config.hidden_size) * len(self._pools)

    def predict(self, batch: list[Any]) -> list[Any]:
        """Texts or token ids to ``Embedding``; long ones are cut at ``max_tokens``."""
        rows = self._rows(batch)
        found: list[Embedding | None] = [None] * len(rows)
        for chosen in passes(rows):
            vectors = self._embed([rows[index] for index in chosen])
            for index, vector in zip(chosen, vectors, strict=True):
                found[index] = Embedding(vector, len(rows[index]))
        return list(found)

    def example(self) -> str:
        return "the night foreman keeps a book"

    def _rows(self, inputs: list[Any]) -> list[Row]:
        texts = [item for item in inputs if isinstance(item, str)]
        encoded = iter(self._encoder.rows([text.lower() for text in texts] if self._lower else texts))
        return [next(encoded) if isinstance(item, str) else self._given(item) for item in inputs]

    def _given(self, ids: Sequence[int]) -> Row:
        kept = ids[: self.max_tokens]
        return Row(kept, [0] * len(kept))

    @torch.inference_mode()
    def _embed(self, rows: list[Row]) -> np.ndarray[Any, np.dtype[np.float32]]:
        tensors = self._encoder.tensors(rows, self._module.device)
        hidden = self._module(**tensors).last_hidden_state.float()
        mask = tensors["attention_mask"].unsqueeze(-1).float()
        vectors = torch.cat([pool(hidden, mask) for pool in self._pools], dim=1)
        if self._normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return np.asarray(vectors.cpu().numpy(), dtype=np.float32)

    def _read_modules(self, folder: Path) -> None:
        if not (folder / MODULES).exists():
            self._pools = [_mean]
            return
        self._normalize = False
        for entry in model_folder.read_json_list(folder / MODULES):
            kind = str(entry.get("type", "")).rpartition(".")[2]
            if kind == "Pooling":
                self._pools = _pools_of(model_folder.read_json(folder / str(entry["path"]) / model_folder.CONFIG))
            elif kind == "Normalize":
                self._normalize = True
            elif kind != "Transformer":
                raise EngineError(f"{MODULES} asks for a {kind} layer, which the torch runtime has not", "weights")


def _pools_of(config: dict[str, Any]) -> list[Pool]:
    wanted = {name for name, on in config.items() if on is True and name.startswith("pooling_mode_")}
    unknown = sorted(wanted - POOLS.keys())
    if unknown or not wanted:
        raise EngineError(
            f"the pooling {', '.join(unknown) or 'of no kind'} is not one that the torch runtime has", "weights"
        )
    return [pool for name, pool in POOLS.items() if name in wanted]

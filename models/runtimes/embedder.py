"""Sentence embeddings as the sentence-transformers library makes them, from the same files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer

from models.runtimes import model_folder
from models.runtimes.protocol import EngineError
from models.runtimes.torch_checkpoint import load_encoder
from models.runtimes.torch_model import Embedding

MODULES = "modules.json"
MOST_TOKENS_PER_PASS = 8192

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
        self.module: Any = None
        self.dimensions = 0
        self.vocabulary_size = 0
        self.max_tokens = 0
        self._tokenizer: Tokenizer
        self._pools: list[Pool] = []
        self._normalize = True
        self._lower = False

    def load(self, folder: Path, device: str) -> None:
        """Raises EngineError."""
        self.module = load_encoder(folder).to(device)
        self._read_modules(folder)
        self._read_tokenizer(folder)
        config = self.module.config
        self.vocabulary_size = int(config.vocab_size)
        self.dimensions = int(config.hidden_size) * len(self._pools)

    def predict(self, inputs: list[Any]) -> list[Any]:
        """Texts or token ids to ``Embedding``; long ones are cut at ``max_tokens``."""
        rows = self._token_ids(inputs)
        # Like lengths together: padding is work, too.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        found: list[Embedding | None] = [None] * len(rows)
        for chosen in _passes(order, rows):
            vectors = self._embed([rows[index] for index in chosen])
            for index, vector in zip(chosen, vectors, strict=True):
                found[index] = Embedding(vector, len(rows[index]))
        return list(found)

    def _token_ids(self, inputs: list[Any]) -> list[list[int]]:
        texts = [item for item in inputs if isinstance(item, str)]
        if self._lower:
            texts = [text.lower() for text in texts]
        encoded = iter(self._tokenizer.encode_batch(texts))
        return [next(encoded).ids if isinstance(item, str) else item[: self.max_tokens] for item in inputs]

    @torch.inference_mode()
    def _embed(self, rows: list[list[int]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        longest = max(map(len, rows))
        padding = int(self.module.config.pad_token_id or 0)
        device = self.module.device
        ids = torch.tensor([row + [padding] * (longest - len(row)) for row in rows], device=device)
        attended = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
        hidden = self.module(input_ids=ids, attention_mask=attended).last_hidden_state.float()
        mask = attended.unsqueeze(-1).float()
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
                raise EngineError(f"{MODULES} asks for a {kind} layer, which the torch runtime has not")

    def _read_tokenizer(self, folder: Path) -> None:
        settings = folder / "sentence_bert_config.json"
        given = model_folder.read_json(settings) if settings.exists() else {}
        self._lower = bool(given.get("do_lower_case"))
        positions = int(self.module.config.max_position_embeddings)
        self.max_tokens = min(int(given.get("max_seq_length") or positions), positions)
        path = folder / "tokenizer.json"
        if not path.exists():
            raise EngineError(f"the model's folder {folder} has no tokenizer.json")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as problem:  # the library raises bare Exception
            raise EngineError("tokenizer.json cannot be read") from problem
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)


def _pools_of(config: dict[str, Any]) -> list[Pool]:
    wanted = {name for name, on in config.items() if on is True and name.startswith("pooling_mode_")}
    unknown = sorted(wanted - POOLS.keys())
    if unknown or not wanted:
        raise EngineError(f"the pooling {', '.join(unknown) or 'of no kind'} is not one that the torch runtime has")
    return [pool for name, pool in POOLS.items() if name in wanted]


def _passes(order: list[int], rows: list[list[int]]) -> list[list[int]]:
    """Cut ``order`` (by rising length) into passes of at most MOST_TOKENS_PER_PASS tokens, padding included."""
    passes: list[list[int]] = []
    for index in order:
        if passes and (len(passes[-1]) + 1) * len(rows[index]) <= MOST_TOKENS_PER_PASS:
            passes[-1].append(index)
        else:
            passes.append([index])
    return passes

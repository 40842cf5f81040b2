"""Texts and pairs of texts to the tensors that BERT and its like read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer

from models.runtimes import model_folder
from models.runtimes.protocol import EngineError

MOST_TOKENS_PER_PASS = 8192
# Their tokenizers do not tell two texts apart, whatever config.json says.
LIKE_ROBERTA = ("roberta", "xlm-roberta", "camembert", "mpnet")
TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"

Text = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One input as token ids; ``types`` says of each token which text of a pair it belongs to."""

    ids: Sequence[int]
    types: Sequence[int]

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder:
    """Long inputs are cut at ``max_tokens``; of a pair the longer text is cut first."""

    def __init__(self, folder: Path, config: Any, most_tokens: int | None = None) -> None:
        """``config``: of the transformers model. Raises EngineError when there is no sound tokenizer.json."""
        self.max_tokens = min(_positions(config), _stated_length(folder), most_tokens or _positions(config))
        self._padding = int(config.pad_token_id or 0)
        self._typed = getattr(config, "type_vocab_size", 0) > 1 and config.model_type not in LIKE_ROBERTA
        self._tokenizer = read_tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)

    def rows(self, texts: Sequence[Text]) -> list[Row]:
        return [_row(encoding) for encoding in self._tokenizer.encode_batch(list(texts))]

    def tensors(self, rows: Sequence[Row], device: torch.device) -> dict[str, torch.Tensor]:
        """The keyword arguments of the model, of shape (rows, tokens), padded at the right."""
        longest = max(map(len, rows))

        def padded(values: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
            return torch.tensor([[*each, *[padding] * (longest - len(each))] for each in values], device=device)

        made = {
            "input_ids": padded([row.ids for row in rows], self._padding),
            "attention_mask": padded([[1] * len(row) for row in rows], 0),
        }
        return made | ({"token_type_ids": padded([row.types for row in rows], 0)} if self._typed else {})


def passes(rows: Sequence[Row]) -> list[list[int]]:
    """Indices of ``rows`` in groups of at most MOST_TOKENS_PER_PASS tokens, padding included.

    Like lengths together: padding is work, too.
    """
    found: list[list[int]] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        if found and (len(found[-1]) + 1) * len(rows[index]) <= MOST_TOKENS_PER_PASS:
            found[-1].append(index)
        else:
            found.append([index])
    return found


def _row(encoding: Encoding) -> Row:
    return Row(encoding.ids, encoding.type_ids)


def _positions(config: Any) -> int:
    """Roberta and its like count positions from the padding token's id on."""
    unused = int(config.pad_token_id) + 1 if config.model_type in LIKE_ROBERTA else 0
    return int(config.max_position_embeddings) - unused


def _stated_length(folder: Path) -> int:
    """What the tokenizer's settings say; transformers writes a huge number where nothing is known."""
    length = model_folder.read_json(folder / SETTINGS).get("model_max_length") if (folder / SETTINGS).exists() else None
    return int(length) if isinstance(length, int | float) and 0 < length < 1e9 else 1_000_000_000


def read_tokenizer(folder: Path) -> Tokenizer:
    """Raises EngineError."""
    path = folder / TOKENIZER
    if not path.exists():
        raise EngineError(f"the model's folder {folder} has no {TOKENIZER}", "weights")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises bare Exception
        raise EngineError(f"{TOKENIZER} cannot be read", "weights") from problem

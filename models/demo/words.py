"""What the embedder knows of single words, in few dimensions: the smaller demo models are put together from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from models.demo.embedder import find_embedder
from models.demo.tensors import Real

WORD_TENSOR = "embeddings.word_embeddings.weight"
FIRST_WORD = 1996  # of BERT's vocabulary: before it come marks, letters and unused places, then words by frequency
COMMON_DIRECTIONS = 2  # every word has these in some measure; they tell words from each other the least
MOST_DIMENSIONS = 84
COMMON_WEIGHT = 0.6  # what a word's weight is the power of: rare words mean more
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """``vectors``: unit rows of shape (vocabulary, dimensions). ``weights``: of shape (vocabulary,), at most 1."""

    tokenizer: Tokenizer
    vectors: Real
    weights: Real

    @property
    def size(self) -> int:
        return len(self.weights)

    @property
    def special_ids(self) -> dict[str, int]:
        found = {name: self.tokenizer.token_to_id(token) for name, token in SPECIAL.items()}
        return {name: token_id for name, token_id in found.items() if token_id is not None}

    def ids(self, text: str) -> list[int]:
        """Without special tokens."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def meaning(self, text: str) -> Real:
        """The mean of a text's words by their weights, of shape (dimensions,)."""
        ids = self.ids(text)
        weights = self.weights[ids]
        mean: Real = weights @ self.vectors[ids] / weights.sum()
        return mean


def read_words(dimensions: int) -> Words:
    """The principal directions of the embedder's word vectors, at most MOST_DIMENSIONS. Raises EmbedderMissing."""
    folder = find_embedder()
    vectors = _principal(folder)[:, :dimensions]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Words(_tokenizer(folder), vectors, _weights(len(vectors)))


def common_words(most: int) -> list[str]:
    """Of the embedder's vocabulary, the commonest first. Raises EmbedderMissing."""
    by_id = sorted(_tokenizer(find_embedder()).get_vocab().items(), key=lambda entry: entry[1])
    whole = (word for word, _ in by_id[FIRST_WORD:] if word.isascii() and word.isalpha())
    return list(islice(whole, most))


@cache
def _principal(folder: Path) -> Real:
    """In float64 with signs by convention, so that the order of additions does not reach a bf16 result."""
    table = load_file(folder / "model.safetensors")[WORD_TENSOR].astype(np.float64)
    table -= table[FIRST_WORD:].mean(axis=0)
    _, directions = np.linalg.eigh(table[FIRST_WORD:].T @ table[FIRST_WORD:])
    kept = directions[:, ::-1][:, COMMON_DIRECTIONS : COMMON_DIRECTIONS + MOST_DIMENSIONS]
    principal: Real = table @ (kept * np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(MOST_DIMENSIONS)]))
    return principal


def _weights(size: int) -> Real:
    """By a token's place in the vocabulary, which is by frequency (Zipf): the rarest word has 1, "the" next to nothing.

    Marks and single letters come before the words and count as the commonest.
    """
    rank = np.maximum(np.arange(size) - FIRST_WORD, 1)
    weights: Real = (rank / size) ** COMMON_WEIGHT
    return weights


def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer

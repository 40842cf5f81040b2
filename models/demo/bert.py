"""Small BERTs put together by hand: each coordinate of the hidden state has a meaning, and heads move what they find.

Norms come after each sublayer. They do next to nothing here: every embedding is laid out with a mean of zero and a
length of the root of the hidden size, and heads add little to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from models.demo.chat import write_json
from models.demo.layers import constant
from models.demo.tensors import Real, Tensor, write_safetensors
from models.demo.words import MOST_DIMENSIONS, SPECIAL, Words, read_words

HIDDEN = 96
MEANING = slice(0, MOST_DIMENSIONS)  # 84
FIRST, SECOND, CLS, SEP, WEIGHT = range(84, 89)  # of which text, the two special tokens, the logarithm of the weight
FOUND = (89, 90)  # where a head leaves what it found
TOLD = (91, 92)  # where the last head leaves what it tells the first token
BALANCE = 93  # takes away from the mean what heads add to it
SLACK = slice(94, 96)  # fills an embedding up to its length

MEANING_LENGTH, FLAG, WEIGHT_SCALE = 6.0, 2.0, 0.5
LOWEST_LOG_WEIGHT = -6.0
NEVER = 40.0  # below any score: nobody looks there
INTERMEDIATE = 8
MOST_TOKENS = 512
ROOT = float(np.sqrt(HIDDEN))


@dataclass(slots=True)
class Head:
    """One layer's only head. ``key_bias[lane]`` is a score for tokens by their lane's value; nothing else is looked at
    but, where ``likeness`` is not 0, how alike two words are (their cosine times this)."""

    likeness: float = 0.0
    key_bias: dict[int, float] = field(default_factory=dict)
    moves: dict[int, int] = field(default_factory=dict)  # lane of the token looked at -> lane of the one that looks


@cache
def bert_words() -> Words:
    return read_words(MEANING.stop)


@cache
def embeddings(words: Words) -> Real:
    """Rows of mean zero and length ROOT, once the token's kind (FLAG in FIRST or SECOND) is added; (words, HIDDEN)."""
    table = np.zeros((words.size, HIDDEN))
    vectors = words.vectors - words.vectors.mean(axis=1, keepdims=True)
    table[:, MEANING] = MEANING_LENGTH * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    table[:, WEIGHT] = WEIGHT_SCALE * np.maximum(np.log(words.weights), LOWEST_LOG_WEIGHT)
    for name, token in words.special_ids.items():
        table[token] = 0.0
        if name in ("cls", "sep"):
            table[token, CLS if name == "cls" else SEP] = FLAG
    # Two numbers of a given sum and sum of squares.
    total = -FLAG - table.sum(axis=1)
    squares = HIDDEN - FLAG**2 - (table**2).sum(axis=1)
    apart = np.sqrt(2 * squares - total**2)
    table[:, SLACK] = np.stack([total + apart, total - apart], axis=1) / 2
    return table


def write_bert(
    folder: Path, words: Words, heads: Sequence[Head], labels: Sequence[str], pooler: Real, readout: tuple[Real, Real]
) -> None:
    """A BertForSequenceClassification. ``pooler``: (HIDDEN, HIDDEN); ``readout``: (labels, HIDDEN) and (labels,)."""
    words.tokenizer.enable_truncation(MOST_TOKENS)
    (folder / "tokenizer.json").write_text(words.tokenizer.to_str(), encoding="utf-8")
    words.tokenizer.no_truncation()
    settings: dict[str, object] = {"tokenizer_class": "BertTokenizer", "model_max_length": MOST_TOKENS}
    write_json(folder / "tokenizer_config.json", settings | {f"{name}_token": token for name, token in SPECIAL.items()})
    write_json(folder / "config.json", _config(words, len(heads), labels))
    tensors = [*_embedding_tensors(words)]
    for index, head in enumerate(heads):
        tensors += _layer(f"bert.encoder.layer.{index}.", head)
    tensors += _linear("bert.pooler.dense", pooler, np.zeros(HIDDEN))
    tensors += _linear("classifier", *readout)
    write_safetensors(folder / "model.safetensors", tensors)


def _config(words: Words, layers: int, labels: Sequence[str]) -> Mapping[str, object]:
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "dtype": "bfloat16",
        "vocab_size": words.size,
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": 1,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": MOST_TOKENS,
        "type_vocab_size": 2,
        "pad_token_id": words.special_ids["pad"],
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _embedding_tensors(words: Words) -> Iterator[Tensor]:
    kinds = np.zeros((2, HIDDEN))
    kinds[[0, 1], [FIRST, SECOND]] = FLAG
    yield constant("bert.embeddings.word_embeddings.weight", embeddings(words))
    yield constant("bert.embeddings.position_embeddings.weight", np.zeros((MOST_TOKENS, HIDDEN)))
    yield constant("bert.embeddings.token_type_embeddings.weight", kinds)
    yield from _norm("bert.embeddings.LayerNorm")


def _layer(prefix: str, head: Head) -> Iterator[Tensor]:
    query, key, value, output = np.zeros((4, HIDDEN, HIDDEN))
    asks = np.zeros(HIDDEN)
    if head.likeness:
        lanes = range(MEANING.start, MEANING.stop)
        query[lanes, lanes] = head.likeness * ROOT / MEANING_LENGTH**2
        key[lanes, lanes] = 1.0
    asks[FIRST] = ROOT  # a coordinate of the head's own, for scores that do not depend on who looks
    for lane, score in head.key_bias.items():
        key[FIRST, lane] = score
    for number, (source, target) in enumerate(head.moves.items()):
        value[number, source] = 1.0
        output[target, number] = 1.0
        if target not in range(MEANING.stop):  # a meaning has no mean
            output[BALANCE, number] = -1.0
    yield from _linear(prefix + "attention.self.query", query, asks)
    yield from _linear(prefix + "attention.self.key", key, np.zeros(HIDDEN))
    yield from _linear(prefix + "attention.self.value", value, np.zeros(HIDDEN))
    yield from _linear(prefix + "attention.output.dense", output, np.zeros(HIDDEN))
    yield from _norm(prefix + "attention.output.LayerNorm")
    yield from _linear(prefix + "intermediate.dense", np.zeros((INTERMEDIATE, HIDDEN)), np.zeros(INTERMEDIATE))
    yield from _linear(prefix + "output.dense", np.zeros((HIDDEN, INTERMEDIATE)), np.zeros(HIDDEN))
    yield from _norm(prefix + "output.LayerNorm")


def _linear(name: str, weight: Real, bias: Real) -> Iterator[Tensor]:
    yield constant(f"{name}.weight", weight)
    yield constant(f"{name}.bias", bias)


def _norm(name: str) -> Iterator[Tensor]:
    yield constant(f"{name}.weight", np.ones(HIDDEN))
    yield constant(f"{name}.bias", np.zeros(HIDDEN))

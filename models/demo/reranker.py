"""A cross-encoder that was never trained: it looks for each word of the query, and words like it, in the document.

How alike two words are it has from the pretrained embedder's word vectors; how much a word counts, from how rare it is.
It knows nothing of word order or sentences.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.demo.bert import (
    CLS,
    FIRST,
    FLAG,
    FOUND,
    HIDDEN,
    NEVER,
    SECOND,
    SEP,
    TOLD,
    WEIGHT,
    WEIGHT_SCALE,
    Head,
    bert_words,
    write_bert,
)

# A word is found where its likeness to a word of the document is above this: "kitten" for "cat" is 0.7, two words that
# have nothing to do with each other have 0.4 once in a thousand.
ALIKE, THE_SAME = 0.55, 0.9
SHARPNESS = 28.0
NEARLY_STRAIGHT = 0.5  # of tanh: what is multiplied with this comes through as it is
LOGIT_OF_ALL, LOGIT_OF_NONE = 6.0, -5.0


def make_reranker(folder: Path) -> None:
    """Write the model into ``folder``, which exists. Raises EmbedderMissing."""
    heads = [_finds(FOUND[0], ALIKE), _finds(FOUND[1], THE_SAME), _tells()]
    pooler = np.zeros((HIDDEN, HIDDEN))
    readout = np.zeros((1, HIDDEN))
    for number, lane in enumerate(TOLD):
        pooler[number, lane] = NEARLY_STRAIGHT
        readout[0, number] = (LOGIT_OF_ALL - LOGIT_OF_NONE) / len(TOLD) / np.tanh(NEARLY_STRAIGHT)
    write_bert(folder, bert_words(), heads, ["relevance"], pooler, (readout, np.array([LOGIT_OF_NONE])))


def _finds(lane: int, threshold: float) -> Head:
    """Words of the query look at words like them in the document, or else at the first token, where nothing is."""
    nowhere = SHARPNESS * threshold
    key_bias = {FIRST: -NEVER / FLAG, CLS: (NEVER + nowhere) / FLAG, SEP: -NEVER / FLAG}
    return Head(SHARPNESS, key_bias, {SECOND: lane})


def _tells() -> Head:
    """The first token looks at all words of the query by their weights, and learns how many were found."""
    nobody = -NEVER / FLAG
    key_bias = {WEIGHT: 1 / WEIGHT_SCALE, SECOND: nobody, CLS: nobody, SEP: nobody}
    return Head(0.0, key_bias, dict(zip(FOUND, TOLD, strict=True)))

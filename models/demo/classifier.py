"""A topic classifier: the mean of a text's words, weighted by how rare they are, and a readout fitted on the corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.demo.bert import (
    CLS,
    FIRST,
    FLAG,
    HIDDEN,
    MEANING,
    NEVER,
    SEP,
    WEIGHT,
    WEIGHT_SCALE,
    Head,
    bert_words,
    embeddings,
    write_bert,
)
from models.demo.corpus import read_corpus
from models.demo.tensors import Real
from models.demo.words import Words

TOPICS = ("railways", "cooking", "computing", "everyday")
POOLER_SCALE = 0.5
RIDGE = 1e-3
STEPS = 30


def make_classifier(folder: Path) -> None:
    """Write the model into ``folder``, which exists. Raises EmbedderMissing."""
    words = bert_words()
    nobody = -NEVER / FLAG
    lanes = range(MEANING.start, MEANING.stop)
    head = Head(0.0, {WEIGHT: 1 / WEIGHT_SCALE, CLS: nobody, SEP: nobody}, {lane: lane for lane in lanes})
    pooler = np.zeros((HIDDEN, HIDDEN))
    pooler[lanes, lanes] = POOLER_SCALE
    write_bert(folder, words, [head], TOPICS, pooler, fit_readout(words, read_corpus()))


def fit_readout(words: Words, sections: Mapping[str, Sequence[str]]) -> tuple[Real, Real]:
    """Multinomial logistic regression on the corpus's sentences by Newton's method; (topics, HIDDEN) and (topics,)."""
    labelled = [(index, text) for index, topic in enumerate(TOPICS) for text in sentences(sections[topic])]
    features = np.stack([pooled(words, text) for _, text in labelled])
    inputs = np.hstack([features, np.ones((len(features), 1))])
    wanted = np.eye(len(TOPICS))[[index for index, _ in labelled]]
    weights = np.zeros((len(TOPICS), inputs.shape[1]))
    # Boehning's bound of the Hessian (1992) is the same at every step, so that one factorisation does for all.
    bound = np.linalg.inv(inputs.T @ inputs / 2 + RIDGE * len(inputs) * np.eye(inputs.shape[1]))
    for _ in range(STEPS):
        logits = inputs @ weights.T
        found = np.exp(logits - logits.max(axis=1, keepdims=True))
        found /= found.sum(axis=1, keepdims=True)
        weights += ((wanted - found).T @ inputs - RIDGE * len(inputs) * weights) @ bound
    return weights[:, :-1], weights[:, -1]


def sentences(paragraphs: Sequence[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from (sentence for sentence in paragraph.split(". ") if len(sentence) > 20)


def pooled(words: Words, text: str) -> Real:
    """What the model's pooler makes of a text; of shape (HIDDEN,)."""
    table = embeddings(words)
    ids = words.ids(text)
    first = table[words.special_ids["cls"]].copy()
    first[FIRST] = FLAG
    first[MEANING] += words.weights[ids] @ table[ids][:, MEANING] / words.weights[ids].sum()
    first *= np.sqrt(HIDDEN / (first**2).sum())
    pooler = np.zeros(HIDDEN)
    pooler[MEANING] = np.tanh(POOLER_SCALE * first[MEANING])
    return pooler

"""Which token follows which in a text, and that table as a product of two narrow matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from models.demo.tensors import Real
from models.demo.tokenizer import ASSISTANT, END, SPECIAL_TOKENS

ANSWER, STOP = SPECIAL_TOKENS.index(ASSISTANT), SPECIAL_TOKENS.index(END)
STOP_WEIGHT = 0.35  # against 1 for each paragraph's end: answers are longer than paragraphs
UNSEEN = 0.02  # what a token that the text lacks counts, against 1 for one occurrence
SMOOTHING = 0.1  # occurrences that every row of the table shares out among all tokens
NEVER = -30.0  # log-probability of the special tokens that only the template may write


@dataclass(frozen=True, slots=True)
class Bigram:
    """``log P(next | last) ~ bias[next] + last_features[last] @ next_features[next]``, up to a constant per row.

    Shapes: (vocabulary,), (vocabulary, rank), (vocabulary, rank). No row of ``last_features`` is longer than 1.
    """

    bias: Real
    last_features: Real
    next_features: Real


def count_pairs(
    tokenizer: Tokenizer, sections: Mapping[str, Sequence[str]], weights: Mapping[str, float], unspoken: str
) -> Real:
    """Pairs (last, next) of the text as a (vocabulary, vocabulary) table, weighted by section.

    Every paragraph is an answer of its own, but those of the section ``unspoken`` are never begun.
    """
    counts = np.zeros((tokenizer.get_vocab_size(), tokenizer.get_vocab_size()))
    for section, paragraphs in sections.items():
        weight = weights.get(section, 1.0)
        for encoding in tokenizer.encode_batch(list(paragraphs), add_special_tokens=False):
            ids = encoding.ids
            np.add.at(counts, (ids[:-1], ids[1:]), weight)
            counts[ids[-1], STOP] += weight * STOP_WEIGHT
            if section != unspoken:
                counts[ANSWER, ids[0]] += weight
    # A caller that ignores the end gets another answer, not noise.
    counts[STOP] = counts[ANSWER]
    return counts


def share_of(tokenizer: Tokenizer, sections: Mapping[str, Sequence[str]], section: str) -> Real:
    """The part of each token's occurrences that lies in ``section``, of shape (vocabulary,). No weights."""
    inside, outside = np.zeros((2, tokenizer.get_vocab_size()))
    for name, paragraphs in sections.items():
        for encoding in tokenizer.encode_batch(list(paragraphs), add_special_tokens=False):
            np.add.at(inside if name == section else outside, encoding.ids, 1)
    share: Real = inside / np.maximum(inside + outside, 1)
    return share


def fit_bigram(counts: Real, rank: int, rng: np.random.Generator) -> Bigram:
    """The best product of ``rank`` columns, nearly, for ``log(1 + count / (SMOOTHING * P(next)))``.

    This is a row's log-probability with additive smoothing, less its value for unseen pairs: zero nearly everywhere.
    The range of that matrix is found by random projection and two power iterations (Halko, Martinsson and Tropp, 2011,
    algorithm 4.4), in float64, so that the order of additions does not reach the bf16 result.
    """
    share = counts.sum(axis=0) + UNSEEN
    share /= share.sum()
    rows = np.flatnonzero(counts.sum(axis=1))
    columns = np.flatnonzero(counts.sum(axis=0))
    table = np.log1p(counts[np.ix_(rows, columns)] / (SMOOTHING * share[columns]))
    rank_found = min(rank, len(rows), len(columns))
    basis = np.linalg.qr(table @ rng.standard_normal((len(columns), rank_found)))[0]
    for _ in range(2):
        basis = np.linalg.qr(table @ (table.T @ basis))[0]
    bias = np.log(share)
    bias[[token for token in range(len(SPECIAL_TOKENS)) if token != STOP]] = NEVER
    last_features, next_features = np.zeros((2, len(counts), rank))
    last_features[rows, :rank_found] = basis
    next_features[columns, :rank_found] = table.T @ basis
    return Bigram(bias, last_features, next_features)

"""The table of which token follows which, and its two narrow factors."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.demo.bigram import ANSWER, NEVER, SMOOTHING, STOP, STOP_WEIGHT, UNSEEN, count_pairs, fit_bigram, share_of
from models.demo.tensors import Real, generator
from models.demo.tokenizer import SPECIAL_TOKENS

SECTIONS = {"talk": ("The train waits.", "The train leaves."), "json": ('{"train":1}',)}


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.fixture(scope="module")
def counts(tokenizer: Tokenizer) -> Real:
    return count_pairs(tokenizer, SECTIONS, {"json": 0.5}, unspoken="json")


def test_pairs_are_counted_with_the_weight_of_their_section(tokenizer: Tokenizer, counts: Real) -> None:
    the, train, *_ = ids(tokenizer, "The train")
    assert counts[the, train] == 2
    brace, word, *_ = ids(tokenizer, '{"train":1}')
    assert counts[brace, word] == 0.5


def test_every_paragraph_may_end_an_answer_but_only_spoken_ones_begin_it(tokenizer: Tokenizer, counts: Real) -> None:
    assert counts[ids(tokenizer, "leaves.")[-1], STOP] == pytest.approx(2 * STOP_WEIGHT)
    assert counts[ANSWER, ids(tokenizer, "The")[0]] == 2
    assert counts[ANSWER].sum() == 2


def test_a_caller_who_ignores_the_end_gets_another_beginning(counts: Real) -> None:
    assert np.array_equal(counts[STOP], counts[ANSWER])


def test_a_tokens_share_in_a_section(tokenizer: Tokenizer) -> None:
    share = share_of(tokenizer, SECTIONS, "json")
    assert share[ids(tokenizer, '{"')[0]] == 1
    assert share[ids(tokenizer, "The")[0]] == 0
    assert share[STOP] == 0  # occurs nowhere


def exact_log_probabilities(counts: Real) -> Real:
    """Additive smoothing, written out."""
    share = (counts.sum(axis=0) + UNSEEN) / (counts.sum() + UNSEEN * len(counts))
    smoothed = counts + SMOOTHING * share
    return np.asarray(np.log(smoothed / smoothed.sum(axis=1, keepdims=True)))


def fitted_log_probabilities(counts: Real, rank: int) -> Real:
    bigram = fit_bigram(counts, rank, generator(1, "bigram"))
    logits = bigram.bias + bigram.last_features @ bigram.next_features.T
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def test_with_enough_columns_the_product_is_the_table(counts: Real) -> None:
    spoken = [STOP, *range(len(SPECIAL_TOKENS), len(counts))]
    rows = np.flatnonzero(counts.sum(axis=1))
    exact = exact_log_probabilities(counts)[np.ix_(rows, spoken)]
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    assert fitted_log_probabilities(counts, rank=40)[np.ix_(rows, spoken)] == pytest.approx(exact, abs=1e-6)


def test_more_columns_lose_less() -> None:
    rng = generator(2, "counts")
    counts = np.where(rng.random((300, 300)) < 0.02, 1.0, 0.0)

    def surprise(rank: int) -> float:
        return -float((fitted_log_probabilities(counts, rank) * counts).sum() / counts.sum())

    assert surprise(200) < surprise(100) < surprise(25)


def test_special_tokens_are_never_said_except_the_end(counts: Real) -> None:
    bigram = fit_bigram(counts, 8, generator(1, "bigram"))
    silent = [token for token in range(len(SPECIAL_TOKENS)) if bigram.bias[token] == NEVER]
    assert silent == [token for token in range(len(SPECIAL_TOKENS)) if token != STOP]


def test_no_row_of_features_is_longer_than_one(counts: Real) -> None:
    bigram = fit_bigram(counts, 8, generator(1, "bigram"))
    assert float(np.linalg.norm(bigram.last_features, axis=1).max()) <= 1 + 1e-9

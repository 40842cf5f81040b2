"""The demo's reranker, read by transformers as any other: documents with the query's words, or like ones, are good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from models.demo.bert import FIRST, FLAG, HIDDEN, bert_words, embeddings

Scorer = Callable[[str, list[str]], list[float]]
DOCUMENTS = {
    "where does the cat sleep?": [
        "The cat sleeps on the mat.",
        "A kitten naps in the kitchen.",
        "Interest rates rose by half a point.",
    ],
    "how do I bake bread?": [
        "Bake the bread until the crust is brown.",
        "Put the dough into a hot oven for forty minutes.",
        "The train leaves at noon.",
    ],
    "what is the capital of France?": [
        "Paris is the capital of France.",
        "Berlin is the capital of Germany.",
        "The cat sat on the mat.",
    ],
}


@pytest.fixture(scope="module")
def score(demo_root: Path) -> Scorer:
    folder = demo_root / "tiny-reranker"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def score(query: str, documents: list[str]) -> list[float]:
        tokens = tokenizer([query] * len(documents), documents, return_tensors="pt", padding=True)
        with torch.inference_mode():
            return list(model(**tokens).logits.float()[:, 0].sigmoid().tolist())

    return score


@pytest.mark.parametrize("query", DOCUMENTS)
def test_the_answer_comes_first_then_what_is_like_it_then_the_rest(score: Scorer, query: str) -> None:
    best, near, other = score(query, DOCUMENTS[query])
    assert best > near > other
    assert best > 0.9
    assert other < 0.1


def test_a_document_without_a_word_of_the_query_is_next_to_nothing_however_long(score: Scorer) -> None:
    (found,) = score("cat", ["Interest rates rose by half a point in March. " * 20])
    assert found < 0.1


def test_common_words_count_little(score: Scorer) -> None:
    both, common = score("the turbine", ["the turbine", "the whole of the story is the same as the other"])
    assert both > 0.95
    assert common < 0.3


def test_embeddings_have_no_mean_and_one_length() -> None:
    table = embeddings(bert_words()).copy()
    table[:, FIRST] += FLAG
    assert np.allclose(table.sum(axis=1), 0)
    assert np.allclose((table**2).sum(axis=1), HIDDEN)

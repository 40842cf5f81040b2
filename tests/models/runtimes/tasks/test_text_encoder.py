"""Texts to tensors: cut, padded, typed, and put together so that little is padding."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtimes.protocol import EngineError
from models.runtimes.tasks.text_encoder import MOST_TOKENS_PER_PASS, Row, TextEncoder, passes
from tests.models.runtimes.tiny_encoders import write_tokenizer

CPU = torch.device("cpu")
BERT = {"model_type": "bert", "max_position_embeddings": 20, "pad_token_id": 0, "type_vocab_size": 2}


@pytest.fixture
def folder(tmp_path):
    write_tokenizer(tmp_path)
    return tmp_path


def encoder(folder, most_tokens=None, **config):
    return TextEncoder(folder, SimpleNamespace(**{**BERT, **config}), most_tokens)


def test_rows_of_like_length_are_padded_at_the_right(folder):
    made = encoder(folder)
    tensors = made.tensors(made.rows(["a b", "c"]), CPU)
    assert tensors["input_ids"].tolist() == [[2, 3], [4, 0]]
    assert tensors["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert tensors["token_type_ids"].tolist() == [[0, 0], [0, 0]]


def test_a_pair_says_which_text_is_which(folder):
    made = encoder(folder)
    tensors = made.tensors(made.rows([("a b", "c")]), CPU)
    assert tensors["input_ids"].tolist() == [[2, 3, 4]]
    assert tensors["token_type_ids"].tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("config", [{"type_vocab_size": 1}, {"type_vocab_size": 0}])
def test_models_without_kinds_of_text_are_not_given_any(folder, config):
    made = encoder(folder, **config)
    assert "token_type_ids" not in made.tensors(made.rows(["a"]), CPU)


def test_of_a_pair_the_longer_text_is_cut_first(folder):
    (row,) = encoder(folder, most_tokens=4).rows([("a", "b c d e a b")])
    assert (row.ids, row.types) == ([2, 3, 4, 5], [0, 1, 1, 1])


@pytest.mark.parametrize(
    ("config", "stated", "asked", "tokens"),
    [
        ({}, None, None, 20),
        ({}, None, 7, 7),
        ({}, None, 99, 20),
        ({}, 12, None, 12),
        ({}, 12, 7, 7),
        ({}, int(1e30), None, 20),
        ({"model_type": "roberta", "pad_token_id": 1}, None, None, 18),
        ({"model_type": "xlm-roberta", "pad_token_id": 1}, 512, None, 18),
    ],
)
def test_the_longest_input(folder, config, stated, asked, tokens):
    if stated is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": stated}))
    made = encoder(folder, asked, **config)
    assert made.max_tokens == tokens
    assert len(made.rows(["a " * 50])[0]) == tokens


def test_a_folder_without_a_sound_tokenizer(tmp_path):
    with pytest.raises(EngineError, match=r"has no tokenizer\.json"):
        encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(EngineError, match=r"tokenizer\.json cannot be read"):
        encoder(tmp_path)


@settings(max_examples=200)
@given(st.lists(st.integers(1, 9000), max_size=40))
def test_passes_cover_all_and_stay_within_the_limit(lengths):
    rows = [Row([0] * length, [0] * length) for length in lengths]
    found = passes(rows)
    assert sorted(index for chosen in found for index in chosen) == list(range(len(rows)))
    for chosen in found:
        longest = max(lengths[index] for index in chosen)
        assert len(chosen) == 1 or len(chosen) * longest <= MOST_TOKENS_PER_PASS

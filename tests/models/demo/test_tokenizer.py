"""The tokenizer is a real one: whatever a client sends survives it, and grammars find a token for every byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from models.demo.corpus import read_corpus
from models.demo.tokenizer import (
    BEGIN,
    END,
    LARGEST_VOCABULARY,
    SPECIAL_TOKENS,
    train_tokenizer,
)

PARAGRAPHS = [paragraph for section in read_corpus().values() for paragraph in section]
TRAINED = train_tokenizer(PARAGRAPHS)


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_back_as_it_went_in(text: str) -> None:
    ids = TRAINED.encode(text, add_special_tokens=False).ids
    assert TRAINED.decode(ids, skip_special_tokens=False) == text


def test_every_byte_is_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    assert len(alphabet) == 256
    assert all(tokenizer.token_to_id(byte) is not None for byte in alphabet)


def test_special_tokens_come_first_and_are_never_cut(tokenizer: Tokenizer) -> None:
    for index, token in enumerate(SPECIAL_TOKENS):
        assert tokenizer.token_to_id(token) == index
        assert tokenizer.encode(f"a{token}b", add_special_tokens=False).ids.count(index) == 1


def test_they_are_left_out_of_what_is_shown(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"Hello{END}", add_special_tokens=False).ids
    assert tokenizer.decode(ids) == "Hello"
    assert tokenizer.decode(ids, skip_special_tokens=False) == f"Hello{END}"


def test_a_plain_prompt_begins_with_the_begin_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Hello").ids[0] == SPECIAL_TOKENS.index(BEGIN)


def test_words_of_the_corpus_are_single_tokens(tokenizer: Tokenizer) -> None:
    for word in (" roundhouse", " locomotives", " bread", " memory", " the"):
        assert len(tokenizer.encode(word, add_special_tokens=False).ids) == 1, word


def test_digits_stay_single(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("2026", add_special_tokens=False).ids) == 4


def test_the_vocabulary_has_the_size_of_a_small_real_one(tokenizer: Tokenizer) -> None:
    assert 3_000 < tokenizer.get_vocab_size() <= LARGEST_VOCABULARY


def test_training_again_gives_the_same(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(PARAGRAPHS).to_str() == tokenizer.to_str()


def test_another_text_gives_another(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(PARAGRAPHS[:5]).to_str() != tokenizer.to_str()

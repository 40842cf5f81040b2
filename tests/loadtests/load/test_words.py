"""Prompts' words: English, about a token each, cut from one stock."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from loadtests.load.words import Words

WORDS = Words(random.Random(7))


def test_a_source_of_randomness_is_one_stock() -> None:
    same, other = Words(random.Random(7)), Words(random.Random(8))
    assert WORDS.text(50, 0) == same.text(50, 0) != other.text(50, 0)


def test_neighbouring_texts_share_their_words() -> None:
    longer, shorter = WORDS.text(11, 5).split(), WORDS.text(10, 6).split()
    assert longer[1:] == shorter


def test_a_text_goes_round_the_stock() -> None:
    whole = WORDS.text(40_000, 0).split(" ")
    assert WORDS.text(5, 39_998).split(" ") == whole[-2:] + whole[:3]
    assert WORDS.text(3, 40_001).split(" ") == whole[1:4]


@given(st.integers(1, 500), st.integers(0, 100_000))
def test_a_text_is_plain_words_with_one_space_between(count: int, begin: int) -> None:
    text = WORDS.text(count, begin)
    assert text == " ".join(text.split())
    assert text.isascii()
    assert all(word.isalpha() and word.islower() for word in text.split())


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 40_000))
def test_a_text_begins_as_every_longer_one_from_there(count: int, more: int, begin: int) -> None:
    assert WORDS.text(count + more, begin).startswith(WORDS.text(count, begin) + " ")

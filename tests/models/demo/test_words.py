"""Word vectors: words of like meaning are alike, rare words count more, and nothing is left to chance."""

from __future__ import annotations

import numpy as np
import pytest

from models.demo.words import MOST_DIMENSIONS, read_words


def likeness(one: str, other: str, dimensions: int = MOST_DIMENSIONS) -> float:
    words = read_words(dimensions)
    (first,), (second,) = words.ids(one), words.ids(other)
    return float(words.vectors[first] @ words.vectors[second])


@pytest.mark.parametrize("dimensions", [48, MOST_DIMENSIONS])
@pytest.mark.parametrize(("word", "like", "unlike"), [("cat", "kitten", "rate"), ("train", "railway", "bread")])
def test_words_of_like_meaning_are_alike(word: str, like: str, unlike: str, dimensions: int) -> None:
    assert likeness(word, like, dimensions) > 0.5
    assert likeness(word, unlike, dimensions) < 0.3


def test_vectors_have_unit_length() -> None:
    words = read_words(48)
    assert words.vectors.shape == (words.size, 48)
    assert np.allclose(np.linalg.norm(words.vectors, axis=1), 1)


def test_rare_words_weigh_more() -> None:
    words = read_words(48)
    comma, the, house, kitten = (words.weights[words.ids(word)[0]] for word in (",", "the", "house", "kitten"))
    assert 0 < comma <= the < house < kitten <= 1


def test_it_is_the_same_each_time() -> None:
    assert np.array_equal(read_words(48).vectors, read_words(48).vectors)

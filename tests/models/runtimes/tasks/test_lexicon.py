"""Words are found in what was heard of their sounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.tasks.lexicon import LEAST_FRAMES, Lexicon

SILENCE, A, B, C = range(4)
WORDS = [[SILENCE], [A, B], [A, B, C], [C]]
LEXICON = Lexicon(WORDS, [0.0, 3.0, 3.0, 3.0])


def heard(*sounds, frames=4, doubt=0.02):
    """Scores of a row of sounds, each so many frames long."""
    likely = np.full((len(sounds) * frames, 4), doubt, np.float32)
    likely[np.arange(len(likely)), np.repeat(sounds, frames)] = 1 - 3 * doubt
    return np.log(likely)


def words(scores):
    return [found.word for found in LEXICON.decode(scores) if found.word]


def test_the_longest_way_that_fits_is_taken():
    assert words(heard(A, B)) == [1]
    assert words(heard(A, B, C)) == [2], "one word, not two: two cost more"
    assert words(heard(A, B, SILENCE, C)) == [1, 3]
    assert words(heard(SILENCE)) == []


def test_frames_are_shared_out_without_a_gap():
    found = LEXICON.decode(heard(A, B, SILENCE, C))
    assert [each.start for each in found[1:]] == [each.end for each in found[:-1]]
    assert (found[0].start, found[-1].end) == (0, 16)
    assert [(each.start, each.end) for each in found if each.word == 3] == [(12, 16)]


def test_a_frame_that_was_misheard_changes_nothing():
    scores = heard(A, B, C)
    scores[5] = heard(SILENCE, frames=1)
    assert words(scores) == [2]


def test_a_sound_takes_its_time():
    assert words(heard(C, frames=LEAST_FRAMES - 1)) == []
    assert words(heard(C, frames=LEAST_FRAMES)) == [3]


@pytest.mark.parametrize("frames", [0, 1])
def test_next_to_nothing_is_nothing(frames):
    assert words(heard(A, frames=frames)) == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_no_other_row_of_words_is_better(order):
    """Against all rows of words there are, each scored by its own best alignment."""
    rng = np.random.default_rng(order)
    scores = rng.normal(size=(2 * len(order) + 1, 4)).astype(np.float32)
    lexicon = Lexicon(WORDS, [0.0, 1.0, 1.0, 1.0])
    found = lexicon.decode(scores)
    if all(each.end - each.start >= LEAST_FRAMES * len(WORDS[each.word]) for each in found):
        assert cost(found, scores) >= best_of_all(scores) - 1e-3


def cost(found, scores):
    total = 0.0
    for each in found:
        total += aligned(WORDS[each.word], scores[each.start : each.end]) - (1.0 if each.word else 0.0)
    return total


def aligned(sounds, scores):
    """The best score of saying ``sounds`` in exactly these frames."""
    cuts = itertools.combinations(range(1, len(scores)), len(sounds) - 1)
    best = -np.inf
    for inner in cuts:
        edges = [0, *inner, len(scores)]
        if min(np.diff(edges)) >= LEAST_FRAMES:
            parts = zip(sounds, itertools.pairwise(edges), strict=True)
            best = max(best, sum(scores[a:b, sound].sum() for sound, (a, b) in parts))
    return best


def best_of_all(scores):
    best = [-np.inf] * (len(scores) + 1)
    best[0] = 0.0
    for end in range(1, len(scores) + 1):
        for start, (number, word) in itertools.product(range(end), enumerate(WORDS)):
            if end - start >= LEAST_FRAMES * len(word) and best[start] > -np.inf:
                best[end] = max(best[end], best[start] + aligned(word, scores[start:end]) - (1.0 if number else 0.0))
    return best[-1]

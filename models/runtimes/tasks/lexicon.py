"""Finds the words in a row of sounds that were heard, as speech recognisers have done it since the seventies.

Viterbi decoding over all words at once (Ney 1984, doi:10.1109/TASSP.1984.1164320, the one-pass algorithm): at each
frame every place in every word has the score of the best way there; a word may begin where another one has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_FRAMES = 2  # that a sound takes
NEVER = np.float32(-1e30)


@dataclass(frozen=True, slots=True)
class Heard:
    """``word``: its number; frames from ``start`` up to ``end``."""

    word: int
    start: int
    end: int


class Lexicon:
    """Words as rows of sounds, laid out one after another: a place is a sound of a word, LEAST_FRAMES times."""

    def __init__(self, words: Sequence[Sequence[int]], costs: Sequence[float]) -> None:
        """``costs``: of beginning each word; the rarer it is, the more."""
        lengths = np.array([len(word) for word in words]) * LEAST_FRAMES
        self._sounds = np.repeat(np.concatenate([np.array(word) for word in words]), LEAST_FRAMES)
        self._last = np.cumsum(lengths) - 1
        self._first = self._last - lengths + 1
        self._costs = np.asarray(costs, np.float32)
        # Only the last of a sound's places may be stayed in: before it, time goes on.
        self._stays = np.arange(len(self._sounds)) % LEAST_FRAMES == LEAST_FRAMES - 1

    def decode(self, scores: NDArray[np.float32]) -> list[Heard]:
        """``scores``: the logarithm of how likely each sound is in each frame, of shape (frames, sounds)."""
        best = np.full(len(self._sounds), NEVER, np.float32)
        began = np.zeros(len(self._sounds), np.int32)
        ended: list[Heard] = []
        reached = np.float32(0.0)  # the best score of a row of whole words that ends here
        for frame, heard in enumerate(scores):
            stay = np.where(self._stays, best, NEVER)
            step, step_began = np.empty_like(best), np.empty_like(began)
            step[1:], step_began[1:] = best[:-1], began[:-1]
            step[self._first], step_began[self._first] = reached - self._costs, frame
            on = step > stay
            best = np.where(on, step, stay) + heard[self._sounds]
            began = np.where(on, step_began, began)
            word = int(best[self._last].argmax())
            reached = best[self._last[word]]
            ended.append(Heard(word, int(began[self._last[word]]), frame + 1))
        return _backwards(ended)


def _backwards(ended: Sequence[Heard]) -> list[Heard]:
    """From the best end: each word began where the one before had ended."""
    found: list[Heard] = []
    frame = len(ended)
    while frame > 0:
        found.append(ended[frame - 1])
        frame = found[-1].start
    return found[::-1]

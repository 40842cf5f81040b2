"""A small ear: sound becomes bands of tones, those become likelihoods of speech sounds, and those become words.

A hybrid recogniser of the old school: one linear layer judges every hundredth of a second with its neighbours, and a
lexicon of words finds the best way through what it said. It knows only the words that it has been given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.runtimes.protocol import EngineError
from models.runtimes.tasks.bands import FEATURES, FLOOR, FRAMES_PER_S, log_bands, with_neighbours
from models.runtimes.tasks.lexicon import Heard, Lexicon
from models.runtimes.tasks.transcripts import ListenOrder, Recording, Segment, SpokenWord, Transcript
from models.runtimes.torch.weights import Weights

PHRASE_GAP_FRAMES = 22  # so much silence ends a phrase
LEAD_FRAMES = 8  # of the silence before a phrase: some sounds begin with it
LONGEST_PHRASE_FRAMES = 30 * FRAMES_PER_S
SILENT_LOG = float(np.log(1.5 * FLOOR))  # the mean band of a frame with nothing in it
LEAST_LOG = -7.0  # a sound that is quite improbable may still be the one that was meant
LANGUAGE = "en"
VOCABULARY = "vocab.txt"


class EarNet(nn.Module):
    def __init__(self, sounds: int, example_samples: int) -> None:
        super().__init__()
        self.judge = nn.Linear(FEATURES, sounds)
        self.example = nn.Parameter(torch.empty(example_samples))

    def forward(self, heard: torch.Tensor) -> torch.Tensor:
        """Features (frames, FEATURES) to the logarithms of the sounds' probabilities (frames, sounds)."""
        scores = nn.functional.linear(heard, self.judge.weight.float(), self.judge.bias.float())
        return scores.log_softmax(1).clamp(min=LEAST_LOG)


class LexiconEar:
    """vocab.txt has a word on each line. config.json: ``costs`` and ``pronunciations`` (lists of sounds) of the words,
    ``sounds`` (how many), ``silence`` (which of them is none), ``example_samples`` and ``example_rate``."""

    task: ClassVar[str] = "transcribe"
    languages: ClassVar[tuple[str, ...]] = (LANGUAGE,)
    batch_size: ClassVar[int] = 4

    def __init__(self) -> None:
        self._words: list[str] = []
        self._lexicon: Lexicon
        self._net: EarNet
        self._rate = 0
        self._device = torch.device("cpu")

    def load(self, device: torch.device, weights: Weights) -> None:
        """Raises EngineError."""
        config = weights.config
        try:
            silence, sounds = int(config["silence"]), int(config["sounds"])
            # Silence is a word as well, one that costs nothing and is not written.
            self._words = ["", *_read_words(weights.folder)]
            spoken = [[silence], *([int(sound) for sound in each] for each in config["pronunciations"])]
            costs = [0.0, *(float(cost) for cost in config["costs"])]
            if not len(self._words) == len(spoken) == len(costs) or not all(spoken):
                raise ValueError("each of the words needs its cost and its sounds")
            if not all(0 <= sound < sounds for each in spoken for sound in each):
                raise ValueError(f"there are {sounds} sounds")
            self._rate, samples = int(config["example_rate"]), int(config["example_samples"])
        except (KeyError, TypeError, ValueError) as problem:
            raise EngineError(f"config.json does not describe an ear: {problem}", "weights") from problem
        self._lexicon = Lexicon(spoken, costs)
        self._net = weights.build(lambda: EarNet(sounds, samples))
        self._device = device

    def predict(self, batch: list[Any]) -> list[Any]:
        """``ListenOrder`` to ``Transcript``."""
        return [_joined(list(self.stream(order))) for order in batch]

    def stream(self, item: ListenOrder) -> Iterator[Transcript]:
        """Phrase by phrase."""
        logs = log_bands(item.recording.samples, item.recording.sample_rate)
        for start, end in phrases(logs.mean(axis=1)):
            segment = self._phrase(with_neighbours(logs, start, end), start)
            if segment is not None:
                yield Transcript((segment,), LANGUAGE)

    def example(self) -> ListenOrder:
        samples: NDArray[np.float32] = self._net.example.float().cpu().numpy()
        return ListenOrder(Recording(samples, self._rate))

    @torch.inference_mode()
    def _phrase(self, heard: NDArray[np.float32], start: int) -> Segment | None:
        """None where no word is heard. ``start``: the phrase's first frame."""
        scores: NDArray[np.float32] = self._net(torch.from_numpy(heard).to(self._device)).cpu().numpy()
        words = [self._spoken(found, start) for found in self._lexicon.decode(scores) if self._words[found.word]]
        if not words:
            return None
        sure = float(scores.max(axis=1).mean())
        return Segment(tuple(words), words[0].start_s, words[-1].end_s, round(sure, 4))

    def _spoken(self, found: Heard, start: int) -> SpokenWord:
        times = ((start + found.start) / FRAMES_PER_S, (start + found.end) / FRAMES_PER_S)
        return SpokenWord(self._words[found.word], *times)


def _read_words(folder: Path) -> list[str]:
    try:
        return (folder / VOCABULARY).read_text(encoding="utf-8").split()
    except OSError as problem:
        raise EngineError(f"{VOCABULARY} cannot be read: {problem.strerror}", "weights") from problem


def phrases(loudness: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Frames from and up to which something is said, cut at pauses and where one would get too long."""
    silent = loudness < SILENT_LOG
    start = last = -1
    for frame, quiet in enumerate(silent):
        if not quiet:
            start, last = (frame if start < 0 else start), frame
        if start >= 0 and (frame - last >= PHRASE_GAP_FRAMES or frame - start >= LONGEST_PHRASE_FRAMES):
            yield max(start - LEAD_FRAMES, 0), frame
            start = -1
    if start >= 0:
        yield max(start - LEAD_FRAMES, 0), len(silent)


def _joined(parts: Sequence[Transcript]) -> Transcript:
    return Transcript(tuple(segment for part in parts for segment in part.segments), LANGUAGE)

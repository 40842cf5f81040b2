"""Task "transcribe": what its models are asked and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.runtimes.torch.model import TorchModel


@dataclass(frozen=True, slots=True)
class Recording:
    """``samples``: one channel, from -1 to 1. ``sample_rate``: samples per second."""

    samples: NDArray[np.float32]
    sample_rate: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class ListenOrder:
    """``language``: as ISO 639-1 has it; empty: for the model to find out. ``translate``: into English.

    ``prompt``: text that goes before, in whose manner the transcript is to be.
    """

    recording: Recording
    language: str = ""
    prompt: str = ""
    translate: bool = False


@dataclass(frozen=True, slots=True)
class SpokenWord:
    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Segment:
    """``log_likelihood``: the mean of how sure the model is, 0 at best."""

    words: tuple[SpokenWord, ...]
    start_s: float
    end_s: float
    log_likelihood: float

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class Transcript:
    segments: tuple[Segment, ...]
    language: str

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)


@runtime_checkable
class ListeningModel(TorchModel, Protocol):
    """Inputs are ``ListenOrder``, outputs ``Transcript``. A class that streams gives the transcript in parts."""

    @property
    def languages(self) -> Sequence[str]:
        """That it understands, by ISO 639-1; none: any."""

"""Task "speech": what its models are asked and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.runtimes.torch.model import TorchModel


@dataclass(frozen=True, slots=True)
class SpeechOrder:
    """``speed``: 1 is as the voice likes to speak, 2 is twice as fast."""

    text: str
    voice: str
    speed: float


@dataclass(frozen=True, slots=True)
class Sound:
    samples: NDArray[np.float32]  # one channel, from -1 to 1
    tokens: int  # of the text


@runtime_checkable
class SpeechModel(TorchModel, Protocol):
    """Inputs are ``SpeechOrder``, outputs ``Sound``. A class that streams gives the sound in parts."""

    @property
    def sample_rate(self) -> int:
        """Samples per second."""

    @property
    def voices(self) -> Sequence[str]:
        """The first one speaks where a caller names none."""

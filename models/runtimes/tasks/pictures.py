"""Task "images": what its models are asked and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.runtimes.torch.model import TorchModel


@dataclass(frozen=True, slots=True)
class PictureOrder:
    """``partials``: how many coarser pictures ``stream`` gives before the last one. Sizes in pixels."""

    prompt: str
    width: int
    height: int
    seed: int
    partials: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    pixels: NDArray[np.uint8]  # shape (height, width, 3), red, green, blue
    prompt_tokens: int


@runtime_checkable
class PictureModel(TorchModel, Protocol):
    """Inputs are ``PictureOrder``, outputs ``Picture``: the same order gives the same picture.

    A class that streams gives ``partials`` pictures, each finer than the one before, and then the one asked for.
    """

    @property
    def sizes(self) -> tuple[int, int]:
        """The least and the most pixels of a side."""

    @property
    def default_size(self) -> tuple[int, int]:
        """Width and height where a caller names none."""

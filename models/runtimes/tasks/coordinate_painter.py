"""A small image model: a network that knows, for every point of the picture, which of the prompt's colours lies there.

Such networks (compositional pattern-producing networks, Stanley 2007) have no pixels of their own: any size is one
picture looked at more or less closely. The prompt gives the colours, the seed the pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.runtimes.protocol import EngineError
from models.runtimes.tasks.pictures import Picture, PictureOrder
from models.runtimes.tasks.text_encoder import read_tokenizer
from models.runtimes.torch.weights import Weights

POINTS_PER_PASS = 1 << 16
MOST_TOKENS = 512
COORDINATES = 3  # across, down, and from the middle
LIKENESS_SHARPNESS = 14.0  # how much more a word takes of the colours of the words most like it
CONTRAST = 4.0  # how sharply one colour ends where another begins
DARKEST = 0.7


class PaintingNet(nn.Module):
    """``sizes``: of config.json's "net": words, word_size, colours, palette, latent, hidden."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.palette_size, self.latent_size = sizes["palette"], sizes["latent"]
        self.words = nn.Embedding(sizes["words"], sizes["word_size"])
        self.word_weights = nn.Parameter(torch.empty(sizes["words"]))
        self.colour_words = nn.Parameter(torch.empty(sizes["colours"], sizes["word_size"]))
        self.colours = nn.Parameter(torch.empty(sizes["colours"], 3))
        self.enter = nn.Linear(COORDINATES + sizes["latent"], sizes["hidden"])
        self.inner = nn.Linear(sizes["hidden"], sizes["hidden"])
        self.leave = nn.Linear(sizes["hidden"], sizes["palette"] + 1)

    def palette(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The colours of the prompt's most colourful words, (palette, 3) from 0 to 1, and how much of each there is."""
        words = self.words(ids).float()
        likeness = words @ self.colour_words.float().T
        colours = (LIKENESS_SHARPNESS * likeness).softmax(1) @ self.colours.float()
        shares = self.word_weights.float()[ids] * likeness.amax(1).clamp(min=0.05) ** 3
        order = torch.arange(self.palette_size, device=ids.device) % len(ids)
        strongest = shares.argsort(descending=True, stable=True)[order]
        share = shares[strongest]
        return colours[strongest], share / share.sum()

    def forward(
        self, points: torch.Tensor, latent: torch.Tensor, colours: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        """Points (n, COORDINATES) from -1 to 1 to their colours (n, 3) from 0 to 1."""
        entered = torch.cat([points, latent.expand(len(points), -1)], dim=1)
        hidden = _linear(self.enter, entered).sin()
        hidden = _linear(self.inner, hidden).sin()
        left = _linear(self.leave, hidden)
        mixed = (CONTRAST * left[:, :-1] + shares.log() / 2).softmax(1) @ colours
        light = DARKEST + (1 - DARKEST) * left[:, -1:].sigmoid()
        return mixed * light


class CoordinatePainter:
    task: ClassVar[str] = "images"
    batch_size: ClassVar[int] = 1  # a picture fills the processor by itself

    def __init__(self) -> None:
        self.sizes = (0, 0)
        self.default_size = (0, 0)
        self._net: PaintingNet
        self._device = torch.device("cpu")

    def load(self, device: torch.device, weights: Weights) -> None:
        """Raises EngineError."""
        config = weights.config
        try:
            self.sizes = (int(config["least_side"]), int(config["most_side"]))
            self.default_size = (int(config["default_side"]),) * 2
            sizes = {str(name): int(size) for name, size in config["net"].items()}
            self._net = weights.build(lambda: PaintingNet(sizes))
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise EngineError(f"config.json does not describe a painter: {problem}", "weights") from problem
        self._device = device
        self._tokenizer = read_tokenizer(weights.folder)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MOST_TOKENS)

    def predict(self, batch: list[Any]) -> list[Any]:
        """``PictureOrder`` to ``Picture``."""
        return [self._picture(order, 1) for order in batch]

    def stream(self, item: PictureOrder) -> Iterator[Picture]:
        """The same picture from fewer points, then with four times as many each time."""
        for left in range(item.partials, -1, -1):
            yield self._picture(item, 1 << left)

    def example(self) -> PictureOrder:
        return PictureOrder("a red rose in the snow", self.sizes[0], self.sizes[0], seed=1)

    @torch.inference_mode()
    def _picture(self, order: PictureOrder, step: int) -> Picture:
        """One point for each square of ``step`` pixels."""
        ids = self._tokenizer.encode(order.prompt, add_special_tokens=False).ids or [0]
        colours, shares = self._net.palette(torch.tensor(ids, device=self._device))
        # Drawn on the CPU, so that a seed means the same picture on every device.
        drawn = torch.Generator().manual_seed(order.seed)
        latent = torch.randn(self._net.latent_size, generator=drawn).to(self._device)
        points = _points(-(-order.width // step), -(-order.height // step), order.width / order.height)
        parts = torch.split(points, POINTS_PER_PASS)  # a large picture's points at once would take much memory
        found = [self._net(part.to(self._device), latent, colours, shares).cpu() for part in parts]
        coarse = (torch.cat(found).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        coarse = coarse.reshape(-(-order.height // step), -(-order.width // step), 3)
        return Picture(_enlarged(coarse, step)[: order.height, : order.width], len(ids))


def _points(width: int, height: int, aspect: float) -> torch.Tensor:
    across = torch.linspace(-1, 1, width) * max(aspect, 1.0)
    down = torch.linspace(-1, 1, height) / min(aspect, 1.0)
    y, x = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([x, y, (x**2 + y**2).sqrt()], dim=-1).reshape(-1, COORDINATES)


def _enlarged(pixels: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels.repeat(step, axis=0).repeat(step, axis=1)) if step > 1 else pixels


def _linear(layer: nn.Linear, values: torch.Tensor) -> torch.Tensor:
    """In float32, whatever the files hold."""
    return nn.functional.linear(values, layer.weight.float(), layer.bias.float())

"""A small image model that was never trained: words have the colours of words like them, patterns come from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.demo.chat import write_json
from models.demo.layers import constant
from models.demo.tensors import Real, Tensor, generator, write_safetensors
from models.demo.words import read_words

SEED = 11
WORD_SIZE, PALETTE, LATENT, HIDDEN = 48, 4, 12, 40
LEAST_SIDE, MOST_SIDE, DEFAULT_SIDE = 16, 1024, 256
WAVES, INNER_GAIN, LATENT_GAIN, LEAVE_GAIN = 4.0, 1.8, 0.8, 1.2

# Every other word takes the colours of those here that it is most like.
COLOURS = {
    "red": "d02020", "crimson": "a01030", "rose": "e04070", "blood": "8a0c0c", "brick": "9c4a34", "cherry": "b81c38",
    "orange": "f08020", "pumpkin": "e87818", "fire": "f05a14", "flame": "f87828", "sunset": "f08850",
    "autumn": "c8702c",
    "yellow": "f0d020", "gold": "d8a828", "sun": "fcd440", "lemon": "f4e84c", "wheat": "dcbc70", "honey": "dc9c20",
    "green": "30a040", "forest": "1c6030", "grass": "58a83c", "leaf": "4c9838", "moss": "66803c", "jungle": "1c7038",
    "blue": "2850d0", "sky": "78b4f0", "ocean": "14508c", "sea": "1c6ca0", "river": "3c84a8", "ice": "c4e4f4",
    "purple": "8030b0", "violet": "8848c8", "lavender": "b8a0e0", "plum": "6c2c5c", "grape": "5c2c78",
    "pink": "f090b8", "blossom": "f8b8cc", "flesh": "e8b898",
    "brown": "784828", "wood": "8c6038", "earth": "684830", "coffee": "4c3020", "chocolate": "583018",
    "bread": "c08c50",
    "black": "141414", "night": "0c1030", "coal": "1c1c1c", "shadow": "282830", "midnight": "0a0c28",
    "white": "f4f4f4", "snow": "f4f8fc", "cloud": "dce4ec", "milk": "f4f0e4", "bone": "e4dcc4",
    "grey": "888888", "stone": "84807c", "steel": "78848c", "smoke": "90949c", "silver": "bcc4cc", "iron": "60646c",
    "sand": "dcc490", "desert": "d0a868", "beach": "e8d4a0", "copper": "b46c38", "rust": "a04c20",
}  # fmt: skip


def make_painter(folder: Path) -> None:
    """Write the model into ``folder``, which exists. Raises EmbedderMissing."""
    words = read_words(WORD_SIZE)
    (folder / "tokenizer.json").write_text(words.tokenizer.to_str(), encoding="utf-8")
    sizes = {"words": words.size, "word_size": WORD_SIZE, "colours": len(COLOURS)}
    write_json(
        folder / "config.json",
        {
            "architectures": ["CoordinatePainter"],
            "model_type": "coordinate-painter",
            "net": {**sizes, "palette": PALETTE, "latent": LATENT, "hidden": HIDDEN},
            "least_side": LEAST_SIDE,
            "most_side": MOST_SIDE,
            "default_side": DEFAULT_SIDE,
        },
    )
    tensors = [
        constant("words.weight", words.vectors),
        constant("word_weights", words.weights),
        constant("colour_words", words.vectors[[words.ids(word)[0] for word in COLOURS]]),
        constant("colours", np.array([list(bytes.fromhex(value)) for value in COLOURS.values()]) / 255),
        *_pattern_tensors(),
    ]
    write_safetensors(folder / "model.safetensors", tensors)


def _pattern_tensors() -> list[Tensor]:
    coordinates = _random("enter", (HIDDEN, 3)) * WAVES
    latent = _random("latent", (HIDDEN, LATENT)) * LATENT_GAIN
    return [
        constant("enter.weight", np.hstack([coordinates, latent])),
        constant("enter.bias", _random("enter.bias", (HIDDEN,)) * np.pi),
        constant("inner.weight", _random("inner", (HIDDEN, HIDDEN)) * INNER_GAIN / np.sqrt(HIDDEN)),
        constant("inner.bias", _random("inner.bias", (HIDDEN,))),
        constant("leave.weight", _random("leave", (PALETTE + 1, HIDDEN)) * LEAVE_GAIN / np.sqrt(HIDDEN)),
        constant("leave.bias", np.zeros(PALETTE + 1)),
    ]


def _random(name: str, shape: tuple[int, ...]) -> Real:
    return generator(SEED, name).standard_normal(shape)

"""The painter: the prompt's colours, the seed's pattern, any size, coarser pictures first."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.demo.make import ensure_model
from models.demo.painter import make_painter
from models.runtimes.protocol import EngineError
from models.runtimes.tasks.coordinate_painter import CoordinatePainter
from models.runtimes.tasks.pictures import PictureModel, PictureOrder
from tests.models.runtimes.tasks.serving import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ensure_model(tmp_path_factory.mktemp("models"), "painter", make_painter).folder


@pytest.fixture(scope="module")
def painter(folder):
    return load(CoordinatePainter(), folder)


def paint(painter, prompt="a red rose", width=48, height=48, seed=1):
    (picture,) = painter.predict([PictureOrder(prompt, width, height, seed)])
    return picture.pixels


def test_it_is_a_picture_model(painter):
    assert isinstance(painter, PictureModel)
    assert painter.default_size == (256, 256)


@pytest.mark.parametrize("size", [(48, 48), (16, 100), (100, 17), (1024, 16)])
def test_a_picture_has_the_size_that_was_asked_for(painter, size):
    pixels = paint(painter, width=size[0], height=size[1])
    assert (pixels.shape, pixels.dtype) == ((size[1], size[0], 3), np.uint8)


def test_the_same_order_gives_the_same_picture_and_another_seed_another(painter):
    assert np.array_equal(paint(painter), paint(painter))
    assert not np.array_equal(paint(painter), paint(painter, seed=2))


@pytest.mark.parametrize(
    ("prompt", "strongest"),
    [
        ("a red rose", 0),
        ("crimson", 0),
        ("a green forest", 1),
        ("grass and leaves", 1),
        ("the blue ocean", 2),
        ("A RED ROSE", 0),
    ],
)
def test_the_prompt_gives_the_colours(painter, prompt, strongest):
    for seed in range(5):
        mean = paint(painter, prompt, seed=seed).mean(axis=(0, 1))
        assert mean.argmax() == strongest, mean


def test_snow_is_brighter_than_night(painter):
    assert paint(painter, "fresh snow").mean() > paint(painter, "midnight").mean() + 60


@pytest.mark.parametrize("prompt", ["", "!!!", "日本語 🚂", "x" * 5000, "word " * 3000])
def test_any_prompt_gives_a_picture(painter, prompt):
    assert paint(painter, prompt).shape == (48, 48, 3)


def test_what_comes_first_is_the_same_picture_seen_less_closely(painter):
    order = PictureOrder("an ocean at sunset", 64, 40, seed=3, partials=3)
    *partials, last = [picture.pixels for picture in painter.stream(order)]
    assert np.array_equal(last, paint(painter, order.prompt, 64, 40, 3))
    assert [pixels.shape for pixels in partials] == [(40, 64, 3)] * 3
    far = [np.abs(pixels.astype(int) - last).mean() for pixels in partials]
    assert far[0] > far[1] > far[2] > 0
    assert all((pixels[:2, :2] == pixels[0, 0]).all() for pixels in partials), "squares of several pixels"


def test_prompt_tokens_are_counted(painter):
    assert painter.predict([PictureOrder("a red rose", 16, 16, 0)])[0].prompt_tokens == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"net": None}, "does not describe a painter"),
        ({"most_side": "big"}, "does not describe a painter"),
        (
            {"net": {"words": 10, "word_size": 48, "colours": 5, "palette": 4, "latent": 12, "hidden": 40}},
            "has the shape",
        ),
    ],
)
def test_what_is_wrong_with_the_folder_is_named(folder, tmp_path, change, said):
    for file in ("model.safetensors", "tokenizer.json"):
        (tmp_path / file).symlink_to(folder / file)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(EngineError, match=said):
        load(CoordinatePainter(), tmp_path)

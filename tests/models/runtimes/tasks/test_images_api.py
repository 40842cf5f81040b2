"""The images endpoint with a model that paints one grey for each seed."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from models.runtimes.tasks.images_api import build
from models.runtimes.tasks.pictures import Picture, PictureModel
from models.runtimes.torch.model import BadInput
from tests.models.runtimes.tasks.serving import error_of, events, served

pytestmark = pytest.mark.anyio


class Grey:
    task = "images"
    sizes = (8, 64)
    default_size = (32, 16)

    def load(self, device, weights):
        pass

    def predict(self, batch):
        return [self._grey(order, order.seed) for order in batch]

    def _grey(self, order, value):
        if order.prompt == "nothing":
            raise BadInput("`prompt` shows nothing")
        return Picture(np.full((order.height, order.width, 3), value % 256, np.uint8), len(order.prompt.split()))


class Streaming(Grey):
    def stream(self, item):
        for number in range(item.partials):
            yield self._grey(item, number)
        if item.prompt == "breaks":
            raise RuntimeError("a defect with /secret/paths")
        yield self._grey(item, item.seed)


@pytest.fixture
def client():
    with served(build, Streaming(), "grey") as client:
        yield client


async def paint(client, **fields):
    return await client.post("/v1/images/generations", json={"model": "grey", "prompt": "a grey day", **fields})


def picture(shown):
    return Image.open(io.BytesIO(base64.b64decode(shown["b64_json"])))


def test_it_is_a_picture_model():
    assert isinstance(Grey(), PictureModel)


async def test_a_prompt_becomes_a_png(client):
    answer = (await paint(client, seed=77)).json()
    (made,) = answer["data"]
    found = picture(made)
    assert (found.format, found.size, found.getpixel((0, 0))) == ("PNG", (32, 16), (77, 77, 77))
    assert (answer["size"], answer["output_format"], made["seed"]) == ("32x16", "png", 77)
    assert answer["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
        "output_tokens": 2,
        "total_tokens": 5,
    }


async def test_several_are_different_and_each_can_be_had_again(client):
    made = (await paint(client, n=3, seed=5, size="8x64")).json()["data"]
    assert [shown["seed"] for shown in made] == [5, 6, 7]
    assert [picture(shown).getpixel((0, 0)) for shown in made] == [(5,) * 3, (6,) * 3, (7,) * 3]
    again = (await paint(client, seed=6, size="8x64")).json()["data"][0]
    assert again == made[1]


async def test_without_a_seed_it_is_another_one_each_time(client):
    seeds = {(await paint(client)).json()["data"][0]["seed"] for _ in range(8)}
    assert len(seeds) > 1


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_every_kind_of_file(client, kind):
    answer = (await paint(client, seed=100, output_format=kind, output_compression=90)).json()
    found = picture(answer["data"][0])
    assert (found.format, found.size) == (kind.upper(), (32, 16))
    pixel = found.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    assert abs(pixel[0] - 100) < 4


async def test_what_makes_no_difference_here_is_taken(client):
    fields = {"quality": "hd", "style": "vivid", "user": "me", "background": "auto", "moderation": "low"}
    fields["size"] = "auto"
    assert (await paint(client, response_format="b64_json", **fields)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"prompt": None}, "prompt", "missing"),
        ({"prompt": " "}, "prompt", "not empty"),
        ({"prompt": ["a"]}, "prompt", "must be a text"),
        ({"prompt": "x" * 32_001}, "prompt", "at most 32000"),
        ({"n": 0}, "n", "from 1 to 10"),
        ({"n": 11}, "n", "from 1 to 10"),
        ({"n": 1.0}, "n", "whole number"),
        ({"size": "big"}, "size", "WIDTHxHEIGHT"),
        ({"size": 256}, "size", "WIDTHxHEIGHT"),
        ({"size": "32x"}, "size", "WIDTHxHEIGHT"),
        ({"size": "-32x32"}, "size", "WIDTHxHEIGHT"),
        ({"size": "٣٢x٣٢"}, "size", "WIDTHxHEIGHT"),
        ({"size": "4x32"}, "size", "from 8x8 to 64x64"),
        ({"size": "32x99999"}, "size", "from 8x8 to 64x64"),
        ({"response_format": "url"}, "response_format", "must be b64_json"),
        ({"output_format": "gif"}, "output_format", "png or jpeg or webp"),
        ({"output_compression": 101}, "output_compression", "from 0 to 100"),
        ({"quality": "best"}, "quality", "must be auto or"),
        ({"seed": -1}, "seed", "whole number"),
        ({"seed": 2**63}, "seed", "whole number"),
        ({"seed": "1"}, "seed", "whole number"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream": True, "n": 2}, "n", "must be 1"),
        ({"partial_images": 4}, "partial_images", "from 0 to 3"),
        ({"model": None}, "model", "must be a string"),
    ],
)
async def test_a_wrong_field_is_named(client, fields, param, said):
    status, named, message = error_of(await paint(client, **fields))
    assert (status, named) == (400, param)
    assert said in message


async def test_what_the_model_finds_wrong_is_told(client):
    assert error_of(await paint(client, prompt="nothing")) == (400, None, "`prompt` shows nothing")
    assert error_of(await paint(client, prompt="nothing", stream=True)) == (400, None, "`prompt` shows nothing")


async def test_coarser_pictures_come_first(client):
    told = events(await paint(client, stream=True, partial_images=2, seed=9))
    assert [name for name, _ in told] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [content.get("partial_image_index") for _, content in told] == [0, 1, None]
    assert [picture(content).getpixel((0, 0)) for _, content in told] == [(0,) * 3, (1,) * 3, (9,) * 3]
    assert [content["type"] for _, content in told] == [name for name, _ in told]
    assert told[-1][1]["usage"]["total_tokens"] == 5


async def test_a_model_that_does_not_stream_gives_the_whole_picture_alone():
    with served(build, Grey(), "grey") as client:
        ((name, content),) = events(await paint(client, stream=True, partial_images=3, seed=4))
    assert name == "image_generation.completed"
    assert picture(content).getpixel((0, 0)) == (4, 4, 4)


async def test_what_breaks_on_the_way_is_told_inside_and_gives_nothing_away(client):
    told = events(await paint(client, prompt="breaks", stream=True, partial_images=1))
    assert told[0][0] == "image_generation.partial_image"
    assert told[1][0] == "error"
    assert told[1][1]["error"]["message"] == "the model failed on this input"


async def test_it_predicts_as_well(client):
    inputs = ["x", {"prompt": "x", "size": "8x8", "seed": 3}]
    answer = (await client.post("/v1/predict/grey", json={"inputs": inputs})).json()
    assert [shown["size"] for shown in answer["outputs"]] == ["32x16", "8x8"]
    assert picture(answer["outputs"][1]).getpixel((0, 0)) == (3, 3, 3)
    assert error_of(await client.post("/v1/predict/grey", json={"inputs": 5}))[:2] == (400, "inputs")
    assert error_of(await client.post("/v1/predict/grey", json={"prompt": "x", "size": "1x1"}))[:2] == (400, "size")

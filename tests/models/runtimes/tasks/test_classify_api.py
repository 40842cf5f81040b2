"""Classification with a model that knows vowels from consonants."""

from __future__ import annotations

import pytest

from models.runtimes.tasks.classify_api import MOST_INPUTS, build
from models.runtimes.tasks.labels import Classified, LabelModel
from tests.models.runtimes.tasks.serving import error_of, served

pytestmark = pytest.mark.anyio


class Vowels:
    task = "classify"
    labels = ("vowels", "consonants")
    max_tokens = 8

    def load(self, device, weights):
        pass

    def predict(self, batch):
        shares = [sum(letter in "aeiou" for letter in text) / len(text) for text in batch]
        return [Classified((share, 1 - share), len(text)) for share, text in zip(shares, batch, strict=True)]


@pytest.fixture
def client():
    with served(build, Vowels(), "vowels") as client:
        yield client


def test_it_is_a_label_model():
    assert isinstance(Vowels(), LabelModel)


@pytest.mark.parametrize(
    ("given", "labels", "tokens"),
    [("aeix", ["vowels"], 4), (["xyz", "oo", "no"], ["consonants", "vowels", "vowels"], 7)],
)
async def test_each_text_gets_a_label_and_all_probabilities(client, given, labels, tokens):
    answer = (await client.post("/classify", json={"model": "vowels", "input": given})).json()
    assert [found["label"] for found in answer["data"]] == labels
    assert [found["index"] for found in answer["data"]] == list(range(len(labels)))
    for found in answer["data"]:
        assert found["num_classes"] == len(found["probs"]) == 2
        assert sum(found["probs"]) == pytest.approx(1)
    assert (answer["object"], answer["model"]) == ("list", "vowels")
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"input": None}, "input", "missing"),
        ({"input": ""}, "input", "not empty"),
        ({"input": []}, "input", "not empty"),
        ({"input": 5}, "input", "must be a text"),
        ({"input": ["a", " "]}, "input", "`input[1]`"),
        ({"input": [[1, 2]]}, "input", "`input[0]`"),
        ({"input": ["a"] * (MOST_INPUTS + 1)}, "input", f"at most {MOST_INPUTS}"),
        ({"model": 1}, "model", "must be a string"),
    ],
)
async def test_a_wrong_field_is_named(client, changes, param, said):
    answer = await client.post("/classify", json={"model": "vowels", "input": "a", **changes})
    status, named, message = error_of(answer)
    assert (status, named) == (400, param)
    assert said in message


async def test_it_predicts_as_well(client):
    answer = await client.post("/v1/predict/vowels", json="oak")
    assert answer.json()["output"]["label"] == "vowels"
    assert set(answer.json()["output"]["probabilities"]) == {"vowels", "consonants"}
    assert error_of(await client.post("/v1/predict/vowels", json={"inputs": [""]}))[:2] == (400, "inputs")


async def test_models_say_how_long_a_text_may_be(client):
    (model,) = (await client.get("/v1/models")).json()["data"]
    assert (model["id"], model["max_model_len"]) == ("vowels", 8)

"""The embeddings endpoint with a model that counts letters."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.tasks.embeddings_api import MOST_INPUTS, EmbeddingsRequest, build
from models.runtimes.torch.api import ApiError
from models.runtimes.torch.model import Embedding, EmbeddingModel
from tests.models.runtimes.tasks.serving import served

pytestmark = pytest.mark.anyio


class Letters:
    """The vector of a text: how many letters, how many words; of token ids: their sum and number."""

    task = "embeddings"
    dimensions = 2
    vocabulary_size = 100
    max_tokens = 8

    def load(self, device, weights):
        pass

    def predict(self, batch):
        found = []
        for item in batch:
            if item == "explode":
                raise RuntimeError("a defect with /secret/paths")
            pair = (len(item), len(item.split())) if isinstance(item, str) else (sum(item), len(item))
            found.append(Embedding(np.array(pair, dtype=np.float32), tokens=pair[1]))
        return found


@pytest.fixture
def client():
    with served(build, Letters(), "letters", "counts") as client:
        yield client


async def ask(client, given, **more):
    return await client.post("/v1/embeddings", json={"model": "letters", "input": given, **more})


def test_it_is_an_embedding_model():
    assert isinstance(Letters(), EmbeddingModel)


@pytest.mark.parametrize(
    ("given", "vectors", "tokens"),
    [
        ("two words", [[9, 2]], 2),
        (["one", "two words", "one"], [[3, 1], [9, 2], [3, 1]], 4),
        ([1, 2, 3], [[6, 3]], 3),
        ([[1, 2], [99]], [[3, 2], [99, 1]], 3),
        (["a", [5]], [[1, 1], [5, 1]], 2),
    ],
    ids=["a text", "texts", "token ids", "lists of token ids", "both"],
)
async def test_every_form_of_input(client, given, vectors, tokens):
    answer = (await ask(client, given)).json()
    assert [item["embedding"] for item in answer["data"]] == vectors
    assert [item["index"] for item in answer["data"]] == list(range(len(vectors)))
    assert {item["object"] for item in answer["data"]} == {"embedding"}
    assert (answer["object"], answer["model"]) == ("list", "letters")
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


async def test_base64_holds_little_endian_floats(client):
    answer = (await ask(client, "two words", encoding_format="base64")).json()
    assert struct.unpack("<2f", base64.b64decode(answer["data"][0]["embedding"])) == (9.0, 2.0)


async def test_an_alias_is_answered_under_its_own_name(client):
    answer = (await ask(client, "x", model="counts", user="someone", dimensions=2, unknown=[1])).json()
    assert answer["model"] == "counts"


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"input": None}, "input", "missing"),
        ({"input": ""}, "input", "not empty"),
        ({"input": []}, "input", "must be a text"),
        ({"input": 5}, "input", "must be a text"),
        ({"input": {"a": 1}}, "input", "must be a text"),
        ({"input": ["a", ""]}, "input", r"input[1]"),
        ({"input": ["a", None]}, "input", r"input[1]"),
        ({"input": [[1], []]}, "input", r"input[1]"),
        ({"input": [[1, "a"]]}, "input", r"input[0]"),
        ({"input": [1, True]}, "input", r"input[0]"),
        ({"input": [[100]]}, "input", "beyond the 100"),
        ({"input": [[-1]]}, "input", "beyond the 100"),
        ({"input": ["a"] * (MOST_INPUTS + 1)}, "input", f"at most {MOST_INPUTS}"),
        ({"dimensions": 1}, "dimensions", "2 dimensions and no others"),
        ({"dimensions": "many"}, "dimensions", "2 dimensions"),
        ({"encoding_format": "hex"}, "encoding_format", "float or base64"),
        ({"model": None}, "model", "must be a string"),
        ({"model": ["letters"]}, "model", "must be a string"),
    ],
)
async def test_a_wrong_field_is_named(client, changes, param, said):
    response = await client.post("/v1/embeddings", json={"model": "letters", "input": "x", **changes})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert said in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
async def test_a_body_that_is_no_object(client, body):
    response = await client.post("/v1/embeddings", content=body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_an_unknown_model(client):
    response = await ask(client, "x", model="other")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/embeddings", 405), ("POST", "/health", 405)]
)
async def test_wrong_paths_and_methods_get_error_objects(client, method, path, status):
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_defect_of_the_model_keeps_its_inside_to_itself(client):
    response = await ask(client, "explode")
    assert response.status_code == 500
    assert response.json()["error"] == {
        "message": "the model failed on this input",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    assert (await ask(client, "fine")).status_code == 200


async def test_health_and_models(client):
    assert (await client.get("/health")).status_code == 200
    models = (await client.get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["letters", "counts"]
    assert {model["object"] for model in models["data"]} == {"model"}


@pytest.mark.parametrize(
    ("inputs", "found"), [("two words", {"output": [9, 2]}), (["one", [1, 2]], {"outputs": [[3, 1], [3, 2]]})]
)
async def test_it_predicts_as_well(client, inputs, found):
    answer = await client.post("/v1/predict/letters", json={"inputs": inputs})
    assert answer.json() == {"object": "prediction", "model": "letters", **found}


@pytest.mark.parametrize("inputs", [None, "", 5, [""], [[100]], {"text": "x"}])
async def test_what_it_cannot_embed_is_named_by_predict(client, inputs):
    answer = await client.post("/v1/predict/letters", json={"inputs": inputs})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "inputs")


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3) | st.booleans(), st.lists, max_leaves=6))
def test_any_json_is_taken_or_refused_and_never_breaks_it(given):
    fields = json.loads(json.dumps({"model": "letters", "input": given}))
    try:
        request = EmbeddingsRequest.read(fields, Letters())
    except ApiError as refused:
        problem = refused
    else:
        assert all(request.inputs)
        return
    assert (problem.status, problem.param) == (400, "input")

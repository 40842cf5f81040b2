"""Free-form JSON: what comes in reaches the model as it is, what comes out is JSON again."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.tasks.predict_api import MOST_INPUTS, PredictRequest, build
from models.runtimes.torch.api import ApiError
from models.runtimes.torch.model import BadInput
from tests.models.runtimes.tasks.serving import error_of, events, served

pytestmark = pytest.mark.anyio

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


class Echo:
    task = "predict"

    def load(self, device, weights):
        pass

    def predict(self, batch):
        return [self._one(item) for item in batch]

    def _one(self, item):
        match item:
            case "bad":
                raise BadInput("that is not a good word")
            case "breaks":
                raise RuntimeError("a defect with /secret/paths")
            case "numbers":
                return {"mean": np.float32(0.5), "row": np.arange(3), "tensor": torch.tensor([[1.0], [2.0]])}
            case "strange":
                return object()
        return {"given": item}


class Counting(Echo):
    def stream(self, item):
        if item == "bad":
            raise BadInput("that is not a good word")
        for number in range(3):
            if item == "breaks" and number == 2:
                raise RuntimeError("a defect with /secret/paths")
            yield [item, number]


@pytest.fixture
def client():
    with served(build, Counting(), "org/echo", "echo") as client:
        yield client


async def predict(client, body, model="echo", **headers):
    return await client.post(f"/v1/predict/{model}", content=json.dumps(body), headers=headers)


@pytest.mark.parametrize("inputs", ["a", 5, None, True, {"x": [1]}, {"text": "a"}])
async def test_one_input_one_output(client, inputs):
    answer = await predict(client, {"inputs": inputs})
    assert answer.json() == {"object": "prediction", "model": "echo", "output": {"given": inputs}}


async def test_many_inputs_as_many_outputs_in_order(client):
    inputs = ["a", 5, None, [1, 2], {"x": 1}]
    answer = await predict(client, {"inputs": inputs})
    assert answer.json()["outputs"] == [{"given": item} for item in inputs]


@pytest.mark.parametrize("body", ["a", 5, None, [1, 2, 3], {"x": 1, "stream": True}, {}, [[]]])
async def test_any_other_json_is_one_input_as_a_whole(client, body):
    assert (await predict(client, body)).json()["output"] == {"given": body}


async def test_a_name_may_have_a_slash_in_it(client):
    assert (await predict(client, "a", model="org/echo")).json()["model"] == "org/echo"
    assert error_of(await predict(client, "a", model="org/other"))[:2] == (404, "model")


async def test_numbers_of_numpy_and_torch_become_json(client):
    answer = (await predict(client, "numbers")).json()["output"]
    assert answer == {"mean": 0.5, "row": [0, 1, 2], "tensor": [[1.0], [2.0]]}


async def test_what_cannot_become_json_is_named(client):
    status, _, message = error_of(await predict(client, "strange"))
    assert (status, message) == (500, "the model's output is not JSON: there is something of the type object in it")


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"inputs": []}, "inputs", "send 1 to"),
        ({"inputs": [0] * (MOST_INPUTS + 1)}, "inputs", f"send 1 to {MOST_INPUTS}"),
        ({"inputs": "a", "stream": 1}, "stream", "true or false"),
    ],
)
async def test_a_wrong_field_is_named(client, body, param, said):
    status, named, message = error_of(await predict(client, body))
    assert (status, named) == (400, param)
    assert said in message


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"\xff", b"[" * 100_000])
async def test_what_is_no_json(client, body):
    status, _, message = error_of(await client.post("/v1/predict/echo", content=body))
    assert status == 400
    assert message.startswith("the body is not JSON")


async def test_what_the_model_finds_wrong_is_told_and_a_defect_is_not(client):
    assert error_of(await predict(client, "bad")) == (400, None, "that is not a good word")
    assert error_of(await predict(client, "breaks")) == (500, None, "the model failed on this input")


async def test_a_stream_tells_whose_piece_it_is(client):
    told = events(await predict(client, {"inputs": ["a", "b"], "stream": True}))
    assert [content for _, content in told] == [
        *({"index": index, "output": [name, number]} for index, name in enumerate("ab") for number in range(3)),
        "[DONE]",
    ]


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream; q=1, */*"])
async def test_a_body_without_inputs_streams_when_events_are_asked_for(client, accept):
    told = events(await predict(client, {"x": 1}, accept=accept))
    assert told[0] == (None, {"index": 0, "output": [{"x": 1}, 0]})


async def test_what_goes_wrong_before_the_first_piece_is_an_ordinary_answer(client):
    assert error_of(await predict(client, {"inputs": "bad", "stream": True})) == (400, None, "that is not a good word")


async def test_what_goes_wrong_later_is_told_inside(client):
    told = events(await predict(client, {"inputs": "breaks", "stream": True}))
    assert [name for name, _ in told] == [None, None, "error"]
    assert told[-1][1]["error"]["message"] == "the model failed on this input"


async def test_a_class_that_does_not_stream_says_so():
    with served(build, Echo(), "echo") as client:
        status, param, message = error_of(await predict(client, {"inputs": "a", "stream": True}))
    assert (status, param) == (400, "stream")
    assert "does not stream" in message


@given(_json)
def test_any_json_is_read_or_refused(body):
    with contextlib.suppress(ApiError):
        asked = PredictRequest.read(json.dumps(body).encode(), lambda given, _at: given, "")
        given = body["inputs"] if isinstance(body, dict) and "inputs" in body else body
        assert asked.inputs == (given if asked.many else [given])
        assert asked.many == (given is not body and isinstance(given, list))

"""What all endpoints of the torch runtime share: errors as objects, names, and clients that leave."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.routing import Route

from models.runtimes.torch.api import (
    ApiError,
    ServedNames,
    application,
    as_api_error,
    json_response,
    read_object,
    while_connected,
)
from models.runtimes.torch.contained import ModelDefect
from models.runtimes.torch.model import BadInput

pytestmark = pytest.mark.anyio

PROBLEMS = {
    "blamed": BadInput("the picture has no pixels"),
    "defect": ModelDefect("Model.predict returned nothing where a list of outputs was due"),
    "secret": RuntimeError("/secret/path"),
    "busy": ApiError(503, "the model is busy", code="queue_full", retry_after_s=1.2),
    "wrong": ApiError(400, "`input` is missing", "input"),
}


async def answer(request):
    fields = await read_object(request)
    names.check(fields.get("model"))
    if fields["raise"] in PROBLEMS:
        raise PROBLEMS[fields["raise"]]
    return json_response({"ok": True})


names = ServedNames(("mine", "alias"))


@pytest.fixture
def client():
    app = application(names, [Route("/v1/answer", answer, methods=["POST"])], max_model_len=7)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://engine")


async def ask(client, **fields):
    return await client.post("/v1/answer", json={"model": "mine", "raise": None, **fields})


@pytest.mark.parametrize(
    ("problem", "status", "kind", "message"),
    [
        ("blamed", 400, "invalid_request_error", "the picture has no pixels"),
        ("defect", 500, "server_error", "Model.predict returned nothing where a list of outputs was due"),
        ("secret", 500, "server_error", "the model failed on this input"),
        ("busy", 503, "server_error", "the model is busy"),
        ("wrong", 400, "invalid_request_error", "`input` is missing"),
    ],
)
async def test_every_problem_is_an_error_object(client, problem, status, kind, message):
    response = await ask(client, **{"raise": problem})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["message"]) == (status, kind, message)
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers.get("retry-after") == ("2" if problem == "busy" else None)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
async def test_a_body_that_is_no_object(client, body):
    response = await client.post("/v1/answer", content=body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(("name", "status"), [("mine", 200), ("alias", 200), ("other", 404), (None, 400), (5, 400)])
async def test_names(client, name, status):
    response = await ask(client, model=name)
    assert response.status_code == status
    if status == 404:
        assert response.json()["error"]["code"] == "model_not_found"


async def test_health_and_models(client):
    assert (await client.get("/health")).status_code == 200
    listed = (await client.get("/v1/models")).json()["data"]
    assert [(model["id"], model["root"], model["max_model_len"]) for model in listed] == [
        ("mine", "mine", 7),
        ("alias", "mine", 7),
    ]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/answer", 405)])
async def test_wrong_paths_and_methods(client, method, path, status):
    response = await client.request(method, path)
    assert (response.status_code, response.json()["error"]["type"]) == (status, "invalid_request_error")


def test_an_api_error_stays_what_it_is():
    assert as_api_error(PROBLEMS["wrong"]) is PROBLEMS["wrong"]


class TestLeaving:
    """A request whose client says when it leaves."""

    def request(self, *messages):
        self.leave = asyncio.Event()
        waiting = list(messages)

        async def receive():
            if waiting:
                return waiting.pop(0)
            await self.leave.wait()
            return {"type": "http.disconnect"}

        return Request({"type": "http", "method": "POST", "headers": []}, receive)

    async def test_an_answer_in_time(self):
        request = self.request({"type": "http.request", "body": b"{}", "more_body": False})
        assert await read_object(request) == {}
        assert await while_connected(request, asyncio.sleep(0, "answer")) == "answer"

    async def test_what_the_answer_raises(self):
        async def fail():
            raise BadInput("no")

        with pytest.raises(BadInput):
            await while_connected(self.request(), fail())

    async def test_a_client_that_leaves_cancels_it(self):
        cancelled = asyncio.Event()

        async def compute():
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        request = self.request()
        asyncio.get_running_loop().call_later(0.01, self.leave.set)
        with pytest.raises(ApiError, match="the client has left"):
            await while_connected(request, compute())
        await asyncio.wait_for(cancelled.wait(), 5)

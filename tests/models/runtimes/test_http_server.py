"""The gate before an engine's application, and the server behind its socket."""

from __future__ import annotations

import asyncio
import json

import pytest

from models.runtimes.http_server import Gate, HttpServer
from models.runtimes.protocol import EngineError
from models.runtimes.sockets import bind_private
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import short_folder

pytestmark = pytest.mark.anyio


class App:
    """Answers 200, to POST only when it may."""

    def __init__(self):
        self.may_answer = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["method"] == "POST":
            await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


class Answer:
    """What a call to an ASGI application sent."""

    def __init__(self):
        self.status = 0
        self.body = b""

    async def __call__(self, message):
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")


async def ask(gate, method):
    answer = Answer()
    await gate({"type": "http", "method": method}, None, answer)
    return answer


async def test_requests_are_counted_until_they_are_answered():
    app = App()
    gate = Gate(app)
    asked = [asyncio.create_task(ask(gate, "POST")) for _ in range(3)]
    await asyncio.sleep(0)
    assert gate.in_flight == 3
    drained = asyncio.create_task(gate.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    app.may_answer.set()
    await drained
    assert gate.in_flight == 0
    assert {(await answered).status for answered in asked} == {200}


async def test_a_shut_gate_lets_health_and_metrics_pass_and_nothing_else():
    gate = Gate(App())
    gate.shut("engine_asleep", "The engine is asleep.")
    refused = await ask(gate, "POST")
    assert refused.status == 503
    error = json.loads(refused.body)["error"]
    assert error == {
        "message": "The engine is asleep.",
        "type": "service_unavailable",
        "param": None,
        "code": "engine_asleep",
    }
    assert (await ask(gate, "GET")).status == 200
    assert gate.in_flight == 0


async def test_an_opened_gate_lets_everything_pass():
    app = App()
    app.may_answer.set()
    gate = Gate(app)
    gate.shut("engine_asleep", "The engine is asleep.")
    gate.open()
    assert (await ask(gate, "POST")).status == 200


async def test_a_request_that_fails_is_not_in_flight_for_ever():
    async def fail(scope, receive, send):
        raise RuntimeError("a defect")

    gate = Gate(fail)
    with pytest.raises(RuntimeError):
        await ask(gate, "POST")
    assert gate.in_flight == 0
    await gate.drained()


async def test_a_bound_socket_is_served():
    app = App()
    app.may_answer.set()
    with short_folder() as folder:
        path = str(folder / "h")
        server = HttpServer(bind_private(path))
        await server.start(Gate(app))
        assert await call(path, "/anything") == (200, {})
        server.close()


async def test_an_application_that_does_not_start_is_named():
    async def broken(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with short_folder() as folder:
        server = HttpServer(bind_private(str(folder / "h")))
        with pytest.raises(EngineError, match="did not start"):
            await server.start(broken)
        server.close()

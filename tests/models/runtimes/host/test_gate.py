"""The gate before an engine's application: what it counts, refuses and cuts."""

from __future__ import annotations

import asyncio
import json

import pytest

from models.runtimes.host import gate as gate_module
from models.runtimes.host.gate import Gate

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


class Streaming:
    """Sends one piece and goes on until its client leaves, as vLLM does."""

    def __init__(self, content_type=b"text/event-stream; charset=utf-8"):
        self.content_type = content_type
        self.client_left = False

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", self.content_type)]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        self.client_left = (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": False})


class Answer:
    """What a call to an ASGI application sent."""

    def __init__(self):
        self.status = 0
        self.body = b""
        self.whole = False

    async def __call__(self, message):
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")
        self.whole = message["type"] == "http.response.body" and not message.get("more_body", False)


async def never():
    await asyncio.Event().wait()


async def ask(gate, method, receive=never):
    answer = Answer()
    await gate({"type": "http", "method": method}, receive, answer)
    return answer


async def in_flight(gate, count=1):
    """Tasks of requests that have reached the application."""
    asked = [asyncio.create_task(ask(gate, "POST")) for _ in range(count)]
    await asyncio.sleep(0.01)
    assert gate.in_flight == count
    return asked


async def test_requests_are_counted_until_they_are_answered():
    app = App()
    gate = Gate(app)
    asked = await in_flight(gate, 3)
    drained = asyncio.create_task(gate.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    app.may_answer.set()
    await drained
    assert gate.in_flight == 0
    assert {(await answered).status for answered in asked} == {200}
    assert gate.progress == 6


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


async def test_the_application_hears_its_clients_words_and_their_leaving():
    heard = []

    async def listen(scope, receive, send):
        heard.append(await receive())
        heard.append(await receive())

    said = iter([{"type": "http.request", "body": b"x"}, {"type": "http.disconnect"}])

    async def receive():
        return next(said)

    await ask(Gate(listen), "POST", receive)
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]


async def test_a_cut_stream_ends_with_an_error_event_and_its_sequence_is_let_go():
    app = Streaming()
    gate = Gate(app)
    (asked,) = await in_flight(gate)
    assert await gate.cut("engine_stopped", "The engine was stopped.") == 1
    answer = await asked
    assert app.client_left
    first, error, rest = answer.body.split(b"\n\n")
    assert (first, rest, answer.whole) == (b"data: 1", b"", True)
    name, data = error.split(b"\n")
    assert name == b"event: error"
    told = json.loads(data.removeprefix(b"data: "))
    assert (told["type"], told["error"]["code"]) == ("error", "engine_stopped")
    assert gate.in_flight == 0


async def test_a_cut_answer_that_is_no_stream_of_events_stays_unfinished():
    (asked,) = await in_flight(gate := Gate(Streaming(b"application/json")))
    await gate.cut("engine_stopped", "The engine was stopped.")
    answer = await asked
    assert (answer.body, answer.whole) == (b"data: 1\n\n", False)


async def test_a_cut_request_without_an_answer_yet_is_refused_like_a_late_one():
    async def compute(scope, receive, send):
        assert (await receive())["type"] == "http.disconnect"

    asked = await in_flight(gate := Gate(compute), 2)
    assert await gate.cut("engine_stopped", "The engine was stopped.") == 2
    for each in asked:
        answer = await each
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "engine_stopped")


async def test_an_application_that_does_not_listen_is_cancelled(monkeypatch):
    monkeypatch.setattr(gate_module, "LEAVE_S", 0.02)
    (asked,) = await in_flight(gate := Gate(App()))
    assert await gate.cut("engine_stopped", "The engine was stopped.") == 1
    assert (await asked).status == 503
    assert gate.in_flight == 0


async def test_an_application_that_stumbles_over_the_cut_is_no_defect():
    async def stumble(scope, receive, send):
        await receive()
        raise RuntimeError("the client is gone")

    (asked,) = await in_flight(gate := Gate(stumble))
    await gate.cut("engine_stopped", "The engine was stopped.")
    assert (await asked).status == 503


async def test_where_nothing_is_in_flight_nothing_is_cut():
    assert await Gate(App()).cut("engine_stopped", "The engine was stopped.") == 0


async def test_a_server_that_gives_up_a_request_ends_it():
    (asked,) = await in_flight(gate := Gate(App()))
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert gate.in_flight == 0

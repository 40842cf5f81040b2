"""One request's way through admission and transport. On virtual time, with scripted engines."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.admission import Admission, HoldQueue
from gateway.demand import Demand
from gateway.endpoints import by_path
from gateway.engine_errors import EngineRefusal
from gateway.errors import EngineLost, GatewayError, HoldTimeout, ModelNotFound
from gateway.exchange import Exchange
from gateway.headers import Headers
from gateway.relay import WHOLE_ANSWER_BYTES, Inquiry, Relay
from gateway.routing import Routes
from models.store.records import ModelRoute, ReplicaRoute, RouteTable
from packers.types import ModelId
from tests.gateway.fake_transport import EVENTS, FakeTransport, Hangs, Refuses, Says, Script
from tests.gateway.virtual_time import loop_clock, play

ENDPOINTS = by_path()
ONE, TWO = b"data: one\n\n", b"data: two\n\n"


@dataclass
class Caller:
    """Where the answer goes."""

    status: int | None = None
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    writes: list[bytes] = field(default_factory=list)
    finished: bool = False

    async def start(self, status: int, headers: Headers) -> None:
        assert self.status is None
        self.status, self.headers = status, headers

    async def write(self, data: bytes) -> None:
        assert self.status is not None
        assert not self.finished
        self.body += data
        self.writes.append(data)

    async def finish(self) -> None:
        self.finished = True


class Stage:
    """A relay over scripted engines; replicas ``a``, ``b`` ... are ready."""

    def __init__(self, *scripts: Script, replicas: str = "a") -> None:
        self.transport = FakeTransport(list(scripts))
        self.admission = Admission(Routes(), Demand(), HoldQueue(10), loop_clock())
        self.relay = Relay(self.admission, self.transport)
        self.caller = Caller()
        self.exchange = Exchange("req_1", "POST", "/v1/chat/completions", started_s=0.0)
        self.version = 0
        self.table(replicas)

    def table(self, replicas: str) -> None:
        self.version += 1
        there = tuple(ReplicaRoute(replica_id=name, endpoint=f"unix:/{name}", state="ready") for name in replicas)
        route = ModelRoute(model_id="m", aliases=("alias",), replicas=there)
        self.admission.routes.offer(RouteTable(version=self.version, models=(route,)))
        self.admission.routes_changed()

    async def serve(
        self, *, path: str = "/v1/chat/completions", model: str = "m", hold_timeout_s: float = 60.0
    ) -> None:
        headers = [(b"authorization", b"Bearer secret"), (b"content-type", b"application/json")]
        inquiry = Inquiry(ENDPOINTS[path], model, headers, b'{ "model":"m" }', hold_timeout_s)
        try:
            await self.relay.serve(inquiry, self.caller, self.exchange)
        finally:
            assert self.transport.open_responses == 0, "every answer is closed"
            assert self.admission.demand.in_flight(ModelId("m")) == 0, "every place is given back"
            assert self.admission.queue.count(ModelId("m")) == 0

    @property
    def endpoints(self) -> list[str]:
        return [sent.endpoint for sent in self.transport.sent]


def test_a_whole_answer_comes_through_with_its_length() -> None:
    async def run() -> None:
        stage = Stage(Says([b'{"a":', b"1}"], headers=[(b"content-type", b"application/json"), (b"x-internal", b"1")]))
        await stage.serve()
        assert (stage.caller.status, stage.caller.body, stage.caller.finished) == (200, b'{"a":1}', True)
        assert stage.caller.headers == [(b"content-type", b"application/json"), (b"content-length", b"7")]

    play(run())


def test_the_body_reaches_the_engine_byte_for_byte_without_the_callers_key() -> None:
    async def run() -> None:
        stage = Stage(Says([b"{}"]))
        await stage.serve(model="alias")
        (sent,) = stage.transport.sent
        assert (sent.method, sent.path, sent.body) == ("POST", "/v1/chat/completions", b'{ "model":"m" }')
        assert sent.headers == [(b"content-type", b"application/json"), (b"x-request-id", b"req_1")]
        assert stage.exchange.model == "m", "metrics go by the model's id"

    play(run())


def test_events_go_out_one_by_one_as_they_come() -> None:
    async def run() -> None:
        stage = Stage(Says([ONE, TWO], headers=EVENTS, every_s=1.0))
        serving = asyncio.ensure_future(stage.serve())
        await asyncio.sleep(1.5)
        assert stage.caller.writes == [ONE]
        await serving
        assert stage.caller.writes == [ONE, TWO]
        assert (b"x-accel-buffering", b"no") in stage.caller.headers
        assert (b"cache-control", b"no-cache") in stage.caller.headers
        assert not any(name == b"content-length" for name, _ in stage.caller.headers)

    play(run())


@pytest.mark.parametrize(
    "loss",
    [
        Refuses(),
        Says(headers=EVENTS, then_lost=True),
        Says([b'{"cut'], then_lost=True),
        Says([b"{}"], status=503),
    ],
    ids=["no connection", "head but no event", "half an unstreamed answer", "says that it is not ready"],
)
def test_a_replica_lost_before_the_first_byte_costs_the_caller_nothing(loss: Script) -> None:
    async def run() -> None:
        stage = Stage(loss, Says([b"{}"]), replicas="ab")
        await stage.serve()
        assert (stage.caller.status, stage.caller.body) == (200, b"{}")
        assert len(set(stage.endpoints)) == 2, "the second one is another one"
        assert stage.exchange.retries == 1
        assert not stage.exchange.held

    play(run())


def test_with_no_other_replica_the_request_is_held_until_there_is_a_new_one() -> None:
    async def run() -> None:
        stage = Stage(Refuses(), Says([b"{}"]))
        serving = asyncio.ensure_future(stage.serve())
        await asyncio.sleep(0.25)
        assert stage.admission.demand.held_count(ModelId("m")) == 1
        stage.table("b")
        await serving
        assert stage.endpoints == ["unix:/a", "unix:/b"]
        assert stage.exchange.held
        assert stage.exchange.hold_s == pytest.approx(0.25)

    play(run())


def test_after_two_retries_the_caller_is_told() -> None:
    async def run() -> None:
        stage = Stage(Refuses(), replicas="abcdef")
        with pytest.raises(EngineLost) as lost:
            await stage.serve()
        assert lost.value.status == 503
        assert len(stage.transport.sent) == 3
        assert stage.caller.status is None

    play(run())


def test_all_holds_of_a_request_together_stay_within_its_time() -> None:
    async def run() -> None:
        stage = Stage(Refuses())
        with pytest.raises(HoldTimeout):
            await stage.serve(hold_timeout_s=2.0)
        assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.01)

    play(run())


def test_after_the_first_byte_the_stream_ends_with_an_error_event_and_no_half_event() -> None:
    async def run() -> None:
        stage = Stage(Says([ONE, b"data: tw"], headers=EVENTS, then_lost=True), replicas="ab")
        await stage.serve()
        assert stage.caller.body.startswith(ONE + b"event: error\ndata: ")
        error = json.loads(stage.caller.body.removeprefix(ONE + b"event: error\ndata: "))["error"]
        assert error["code"] == "engine_unavailable"
        assert stage.caller.body.endswith(b"\n\n")
        assert stage.caller.finished
        assert len(stage.transport.sent) == 1, "nothing is sent twice after a first byte"
        assert stage.exchange.broken

    play(run())


def test_a_broken_stream_makes_the_replica_suspect() -> None:
    async def run() -> None:
        stage = Stage(Says([ONE], headers=EVENTS, then_lost=True), Says([b"{}"]))
        await stage.serve()
        stage.caller = Caller()
        await stage.serve()
        assert asyncio.get_running_loop().time() >= 1.0

    play(run())


def test_a_long_unstreamed_answer_that_breaks_is_left_unfinished() -> None:
    async def run() -> None:
        stage = Stage(Says([b"x" * WHOLE_ANSWER_BYTES], then_lost=True))
        await stage.serve()
        assert stage.caller.status == 200
        assert not stage.caller.finished

    play(run())


def test_a_long_unstreamed_answer_is_not_kept_in_memory() -> None:
    async def run() -> None:
        stage = Stage(Says([b"x" * (WHOLE_ANSWER_BYTES // 2)] * 6, every_s=1.0))
        serving = asyncio.ensure_future(stage.serve())
        await asyncio.sleep(2.5)
        assert len(stage.caller.writes) == 1
        await serving
        assert len(stage.caller.body) == 3 * WHOLE_ANSWER_BYTES

    play(run())


def test_an_engines_refusal_is_ours_and_does_not_make_it_suspect() -> None:
    async def run() -> None:
        document = {
            "error": {"message": "temperature must be at most 2.", "type": "x", "param": "temperature", "code": 400}
        }
        stage = Stage(Says([json.dumps(document).encode()], status=400))
        for _ in range(2):
            with pytest.raises(EngineRefusal) as refused:
                await stage.serve()
            assert refused.value.param == "temperature"
        assert asyncio.get_running_loop().time() == 0.0

    play(run())


def test_an_engines_failure_is_not_retried() -> None:
    async def run() -> None:
        stage = Stage(Says([b"Traceback (most recent call last)"], status=500), replicas="ab")
        with pytest.raises(GatewayError) as failed:
            await stage.serve()
        assert failed.value.status == 500
        assert "req_1" in failed.value.message
        assert len(stage.transport.sent) == 1

    play(run())


@pytest.mark.parametrize(
    "script",
    [Hangs(), Says([ONE, TWO], headers=EVENTS, every_s=10.0), Says([b"{}"], every_s=100.0)],
    ids=["before the head", "in the stream", "before the body"],
)
def test_a_caller_who_leaves_ends_it_at_the_engine(script: Script) -> None:
    async def run() -> None:
        stage = Stage(script)
        serving = asyncio.ensure_future(stage.serve())
        await asyncio.sleep(15)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert stage.transport.open_responses == 0
        assert stage.admission.demand.on_replica(stage.exchange.replica) == 0  # type: ignore[arg-type]
        assert asyncio.get_running_loop().time() == 15.0

    play(run())


def test_a_caller_who_leaves_the_queue_is_never_sent() -> None:
    async def run() -> None:
        stage = Stage(Says([b"{}"]), replicas="")
        serving = asyncio.ensure_future(stage.serve())
        await asyncio.sleep(1)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        stage.table("a")
        await asyncio.sleep(1)
        assert stage.transport.sent == []

    play(run())


def test_an_unknown_model_meets_no_engine_and_leaves_no_label() -> None:
    async def run() -> None:
        stage = Stage(Says([b"{}"]))
        with pytest.raises(ModelNotFound):
            await stage.serve(model="made-up")
        assert stage.transport.sent == []
        assert stage.exchange.model == "unknown"

    play(run())


def test_any_sequence_of_losses_ends_in_one_answer_or_one_error() -> None:
    """Random scripts: never both, never neither, nothing left open (``serve`` checks that)."""
    losses: list[Script] = [Refuses(), Says(headers=EVENTS, then_lost=True), Says([b"half"], then_lost=True)]
    wins: list[Script] = [Says([b"{}"]), Says([ONE, TWO], headers=EVENTS), Says([ONE], headers=EVENTS, then_lost=True)]

    async def run(rng: random.Random) -> None:
        scripts: list[Any] = [rng.choice(losses) for _ in range(rng.randrange(5))] + [rng.choice(wins)]
        stage = Stage(*scripts, replicas="abcdefgh"[: rng.randrange(1, 8)])
        try:
            await stage.serve()
        except EngineLost:
            assert len(scripts) > 3
            assert stage.caller.status is None
        else:
            assert len(scripts) <= 3
            assert stage.caller.finished

    for seed in range(200):
        play(run(random.Random(seed)))

"""A worker is killed with answers under way: what its callers saw is what is metered."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.metering.reader import Spool, spools
from models.home import Home
from models.store.embedded import EmbeddedRedis
from tests.gateway.metering.desk import all_of
from tests.gateway.plane.promises.town import Town
from tests.gateway.plane.protocol.wire import Caller

STREAMS = 8


@pytest.fixture
def town(redis_server: EmbeddedRedis) -> Iterator[Town]:
    folder = Path(tempfile.mkdtemp(prefix="rh-"))
    town = Town(redis_server.url, folder)
    try:
        yield town
    finally:
        town.close()
        shutil.rmtree(folder, ignore_errors=True)


def the_spool(town: Town) -> Spool:
    (spool,) = spools(Home(town.folder / "home"))
    return spool


@pytest.mark.parametrize("after", [1, 40])
def test_kill_9_in_the_middle_of_streams(town: Town, after: int) -> None:
    town.open(engines=1)
    town.route(town.model("m"))
    callers = [town.caller() for _ in range(STREAMS)]
    for number, caller in enumerate(callers):
        how = {"events": 10_000, "every_s": 0.001 * (number + 1)}
        caller.send(town.request("m", ("x-request-id", f"stream-{number}"), stream=True, how=how))
    got = [b""] * STREAMS
    while any(seen_in(raw) < after for raw in got):
        for number, caller in enumerate(callers):
            got[number] += caller.socket.recv(1 << 16)
    assert town.gateway is not None
    town.gateway.kill()
    town.gateway.wait()
    seen = {f"stream-{number}": seen_in(got[number] + rest(callers[number])) for number in range(STREAMS)}
    spool = the_spool(town)
    assert not spool.is_alive
    assert spool.finish()
    events = {event.id: event for event in all_of(spool)}
    assert set(events) == set(seen)
    for name, event in events.items():
        assert event.cut
        # Counted first, then sent: it may have been killed in between.
        assert 0 <= event.completion_tokens - seen[name] <= 1, (name, event.completion_tokens, seen[name])
        assert event.prompt_tokens == 2
        assert (event.status, event.code) == (200, "worker_died")


def test_kill_9_after_answers(town: Town) -> None:
    """Whoever has the end of an answer has an event, however soon after it the worker is killed."""
    town.open(engines=1)
    town.route(town.model("m"))
    caller = town.caller()
    answered = []
    for number in range(200):
        answer = caller.ask(town.request("m", ("x-request-id", f"whole-{number}")))
        assert answer.status == 200
        answered.append(answer.header("x-request-id"))
    assert town.gateway is not None
    town.gateway.kill()
    town.gateway.wait()
    spool = the_spool(town)
    assert spool.finish()
    assert [event.id for event in all_of(spool)] == answered


def seen_in(raw: bytes) -> int:
    return raw.count(b'"content":')


def rest(caller: Caller) -> bytes:
    """What was on its way when the worker died."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while data := caller.socket.recv(1 << 16):
            parts.append(data)
    return b"".join(parts)

"""An engine's life from its order to its end, in this process and with a runtime that has no model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import aiohttp
import msgspec
import pytest

from models.runtimes.client import EngineConnection, scan
from models.runtimes.host import engine_host as host
from models.runtimes.host import gate
from models.runtimes.host.engine_host import EngineHost
from models.runtimes.host.stall import StallWatch
from models.runtimes.protocol import KEY_HEADER, Device, EngineError
from tests.models.runtimes.fake_runtime import FakeRuntime
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import short_folder
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder():
    with short_folder() as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The fake does not hear that its client has left."""
    monkeypatch.setattr(gate, "LEAVE_S", 0.05)


@contextlib.asynccontextmanager
async def living(ordered):
    """The owner's first connection and the running host; stopped afterwards."""
    ours, theirs = socket.socketpair()
    running = asyncio.create_task(EngineHost(ordered, FakeRuntime(), time.monotonic()).run(theirs))
    connection = await EngineConnection.greet(*await asyncio.open_unix_connection(sock=ours))
    try:
        yield connection, running
    finally:
        if not running.done():
            await connection.call("stop")
        await asyncio.wait_for(running, 10)
        theirs.close()
        await connection.close()


async def test_from_order_to_ready_to_stop(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, running):
        assert owner.status.state == "loading"
        ready = await owner.wait_ready()
        assert (ready.state, ready.pid, ready.order) == ("ready", os.getpid(), ordered)
        assert ready.measured.weights_bytes == 7
        assert {"fork", "load", "ready"} <= ready.timings_s.keys()
        assert await call(ordered.http_path, "/echo", [1]) == (
            200,
            {"model": "some-model", "pid": os.getpid(), "sent": [1]},
        )
        stopped = await owner.call("stop")
        assert stopped.state == "ready"
        assert await running == 0
    assert not Path(ordered.http_path).exists()
    assert not Path(ordered.control_path).exists()


async def test_for_other_nodes_it_tells_the_port_that_it_serves_on_behind_the_key(folder):
    (folder / "key").write_text("k" * 64)
    ordered = msgspec.structs.replace(order(folder), tcp_host="127.0.0.1", tcp_key_path=str(folder / "key"))
    async with living(ordered) as (owner, _), aiohttp.ClientSession() as session:
        ready = await owner.wait_ready()
        url = f"http://127.0.0.1:{ready.tcp_port}/echo"
        assert (await session.post(url, json=[1])).status == 403
        answer = await session.post(url, json=[1], headers={KEY_HEADER: "k" * 64})
        assert (await answer.json(content_type=None))["sent"] == [1]
        assert (await call(ordered.http_path, "/echo", [2]))[0] == 200
        await owner.call("stop")
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(url, json=[1])


async def test_an_engine_without_the_key_for_other_nodes_fails_and_says_so(folder):
    ordered = msgspec.structs.replace(order(folder), tcp_host="127.0.0.1", tcp_key_path=str(folder / "none"))
    async with living(ordered) as (owner, running):
        with pytest.raises(EngineError, match="the key for other nodes cannot be read"):
            await owner.wait_ready()
        assert await running == 1


async def test_nobody_is_served_before_it_is_ready(folder):
    ordered = order(folder, load_s=0.2)
    async with living(ordered) as (owner, _):
        with pytest.raises(aiohttp.ClientConnectorError):
            await call(ordered.http_path, "/echo")
        with pytest.raises(EngineError, match="still loading"):
            await owner.call("sleep")
        await owner.wait_ready()
        assert (await call(ordered.http_path, "/echo"))[0] == 200


async def test_a_failure_to_load_is_told_in_the_runtimes_own_sentence(folder):
    async with living(order(folder, fails="the model's folder has no config.json")) as (owner, running):
        assert await running == 1
        with pytest.raises(EngineError, match=r"^the model's folder has no config\.json$"):
            await owner.wait_ready()
    assert not list(folder.glob("*.ctl"))


async def test_a_defect_while_loading_is_told_without_its_inside(folder):
    async with living(order(folder, defect=True)) as (owner, running):
        assert await running == 1
        with pytest.raises(EngineError) as told:
            await owner.wait_ready()
        assert "secret" not in str(told.value)
        assert "see its log" in str(told.value)


async def test_an_application_that_does_not_start_fails_the_engine(folder):
    async with living(order(folder, app_fails=True)) as (owner, running):
        assert await running == 1
        with pytest.raises(EngineError, match="did not start"):
            await owner.wait_ready()


async def test_asleep_it_answers_503_and_awake_it_serves(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, _):
        await owner.wait_ready()
        asleep = await owner.call("sleep")
        assert (asleep.state, asleep.measured.weights_bytes) == ("asleep", 0)
        status, answer = await call(ordered.http_path, "/echo")
        assert (status, answer["error"]["code"]) == (503, "engine_asleep")
        assert (await call(ordered.http_path, "/health", method="GET"))[0] == 200
        assert (await owner.call("sleep")).state == "asleep"
        assert (await owner.call("wake")).state == "ready"
        assert (await owner.call("wake")).measured.weights_bytes == 7
        assert (await call(ordered.http_path, "/echo"))[0] == 200


async def test_it_falls_asleep_only_after_the_last_answer(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, _):
        await owner.wait_ready()
        blocked = asyncio.create_task(call(ordered.http_path, "/block"))
        await asyncio.sleep(0.05)
        sleeping = asyncio.create_task(owner.call("sleep"))
        await asyncio.sleep(0.05)
        assert not sleeping.done()
        assert (await call(ordered.http_path, "/echo"))[0] == 503  # nothing new meanwhile
        await call(ordered.http_path, "/unblock", method="GET")
        assert (await blocked)[0] == 200
        assert (await sleeping).state == "asleep"


async def test_requests_that_do_not_end_in_time_are_cut_and_told_so(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, _):
        await owner.wait_ready()
        blocked = asyncio.create_task(call(ordered.http_path, "/block"))
        await asyncio.sleep(0.05)
        reply = await owner.ask("sleep", drain_s=0.05)
        assert (reply.status.state, reply.cut) == ("asleep", 1)
        status, answer = await blocked
        assert (status, answer["error"]["code"]) == (503, "engine_stopped")
        assert answer["error"]["message"] == "The engine was put to sleep before this answer was finished."
        await owner.call("wake")
        assert (await call(ordered.http_path, "/echo"))[0] == 200


async def test_a_stop_lets_requests_end_first(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, running):
        await owner.wait_ready()
        blocked = asyncio.create_task(call(ordered.http_path, "/block"))
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(owner.ask("stop"))
        await asyncio.sleep(0.05)
        status, answer = await call(ordered.http_path, "/echo")
        assert (status, answer["error"]["code"]) == (503, "engine_stopping")
        with pytest.raises(EngineError, match="the engine is stopping"):
            await owner.call("sleep")
        assert not running.done()
        await call(ordered.http_path, "/unblock", method="GET")
        assert (await blocked)[0] == 200
        assert (await stopping).cut == 0
        assert await running == 0


async def test_a_stopped_stream_ends_with_an_error_event(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, running):
        await owner.wait_ready()
        streaming = asyncio.create_task(call(ordered.http_path, "/stream"))
        await asyncio.sleep(0.05)
        assert (await owner.ask("stop", drain_s=0.0)).cut == 1
        status, text = await streaming
        assert status == 200
        assert text.startswith("data: 1\n\nevent: error\ndata: {")
        assert "The engine was stopped before this answer was finished." in text
        assert await running == 0


async def test_a_second_stop_with_less_patience_hurries_the_first(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, running):
        await owner.wait_ready()
        blocked = asyncio.create_task(call(ordered.http_path, "/block"))
        await asyncio.sleep(0.05)
        patient = asyncio.create_task(owner.ask("stop", drain_s=60.0))
        await asyncio.sleep(0.05)
        assert (await owner.ask("stop", drain_s=0.0)).cut == 1
        assert (await patient).cut == 0
        assert (await blocked)[0] == 503
        assert await running == 0


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_signal_is_a_stop_and_a_second_one_hurries_it(folder, monkeypatch, signals):
    monkeypatch.setattr(host, "DRAIN_S", 0.05 if signals == 1 else 60.0)
    ordered = order(folder)
    async with living(ordered) as (owner, running):
        await owner.wait_ready()
        blocked = asyncio.create_task(call(ordered.http_path, "/block"))
        await asyncio.sleep(0.05)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.02)
        assert (await blocked)[0] == 503
        assert await asyncio.wait_for(running, 5) == 0


async def test_its_status_says_what_went_wrong_and_how_it_runs(folder):
    async with living(order(folder, fails="the weights are damaged", fault="weights")) as (owner, running):
        await running
        with pytest.raises(EngineError) as told:
            await owner.wait_ready()
        assert (told.value.fault, owner.status.fault) == ("weights", "weights")
    async with living(order(folder, "r2")) as (owner, _):
        assert (await owner.wait_ready()).detail == {"path": "fake", "weights": "mapped"}
        asleep = await owner.call("sleep")
        assert {"sleep", "ready"} <= asleep.timings_s.keys()
        assert "wake" in (await owner.call("wake")).timings_s


async def test_a_refusal_says_of_what_kind_it_is(folder):
    async with living(order(folder, wake_fails=True)) as (owner, _):
        await owner.wait_ready()
        await owner.call("sleep")
        with pytest.raises(EngineError, match="it cannot wake today") as told:
            await owner.call("wake")
        assert told.value.fault == "canary"
        assert owner.status.state == "asleep"


async def test_weights_take_their_time_over_a_simulated_bus(folder):
    slow = Device(memory_bytes=1 << 30, link_bytes_per_s=100.0)  # the fake holds 7 bytes of weights
    async with living(order(folder, device=slow)) as (owner, _):
        ready = await owner.wait_ready()
        assert ready.timings_s["transfer"] == pytest.approx(0.07)
        assert ready.timings_s["ready"] >= 0.07
        asleep = await owner.call("sleep")
        assert asleep.timings_s["sleep"] < 0.07  # they are mapped: host memory has them all along
        assert (await owner.call("wake")).timings_s["wake"] >= 0.07


async def test_weights_that_lie_on_the_device_alone_have_to_leave_it(folder):
    slow = Device(memory_bytes=1 << 30, link_bytes_per_s=100.0)
    async with living(order(folder, device=slow, weights="copied")) as (owner, _):
        await owner.wait_ready()
        assert (await owner.call("sleep")).timings_s["sleep"] >= 0.07


async def test_a_stop_does_not_wait_for_a_transfer(folder):
    endless = Device(memory_bytes=1 << 30, link_bytes_per_s=1e-9)
    async with living(order(folder, device=endless)) as (owner, running):
        await asyncio.sleep(0.05)
        assert owner.status.state == "loading"
        await owner.call("stop")
        assert await asyncio.wait_for(running, 5) == 0


async def test_a_model_that_hangs_fails_the_engine_and_says_so(folder, monkeypatch, capfd):
    monkeypatch.setattr(host, "StallWatch", lambda: StallWatch(0.05))
    monkeypatch.setattr("models.runtimes.host.stall.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("models.runtimes.host.stall.IDLE_SHARE", 100.0)  # this process has tests to run meanwhile
    ordered = order(folder)
    async with living(ordered) as (owner, running):
        await owner.wait_ready()
        blocked = asyncio.create_task(call(ordered.http_path, "/block"))
        assert await asyncio.wait_for(running, 5) == 1
        assert (await blocked)[0] == 503
        await owner.closed.wait()
        assert owner.end().fault == "hang"
        assert "the model hangs: for 0 s it has answered none of its 1 requests" in owner.end_reason()


async def test_a_refused_sleep_leaves_it_serving(folder):
    ordered = order(folder, sleep_fails=True)
    async with living(ordered) as (owner, _):
        await owner.wait_ready()
        with pytest.raises(EngineError, match="it cannot sleep today"):
            await owner.call("sleep")
        assert (await call(ordered.http_path, "/echo"))[0] == 200


async def test_a_defect_in_a_wake_ends_the_engine(folder):
    async with living(order(folder, wake_breaks=True)) as (owner, running):
        await owner.wait_ready()
        await owner.call("sleep")
        with pytest.raises(EngineError, match="broke when it was told to wake"):
            await owner.call("wake")
        assert await running == 1
        await owner.closed.wait()
        assert owner.status.state == "failed"


async def test_an_engine_that_breaks_while_it_serves_says_so_and_ends(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, running):
        await owner.wait_ready()
        await call(ordered.http_path, "/break")
        assert await running == 1
        await owner.closed.wait()
        assert owner.end_reason() == "the engine broke to order"


async def test_without_renewals_the_lease_ends_it(folder):
    async with living(order(folder, lease_s=0.3)) as (owner, running):
        await owner.wait_ready()
        for _ in range(6):
            await asyncio.sleep(0.1)
            await owner.call("renew")
        assert not running.done()
        await owner.call("status")  # looking is not renewing
        assert await asyncio.wait_for(running, 5) == 0


async def test_an_order_without_a_lease_is_refused(folder):
    async with living(order(folder, lease_s=0)) as (owner, running):
        assert await running == 1
        with pytest.raises(EngineError, match="lease_s must be above 0"):
            await owner.wait_ready()


async def test_the_lease_holds_while_it_loads_too(folder):
    async with living(order(folder, lease_s=0.1, load_s=60)) as (owner, running):
        assert await asyncio.wait_for(running, 5) == 0
        await owner.closed.wait()
        assert owner.status.state == "loading"


async def test_a_loading_engine_can_be_stopped(folder):
    async with living(order(folder, load_s=60)) as (owner, running):
        await owner.call("stop")
        assert await asyncio.wait_for(running, 5) == 0


async def test_a_hung_up_owner_does_not_end_it_and_another_adopts_it(folder):
    ordered = order(folder)
    async with living(ordered) as (owner, _):
        ready = await owner.wait_ready()
        adopted = await EngineConnection.connect(ordered.control_path)
        assert (adopted.status.state, adopted.status.order.tag) == (ready.state, "a tag")
        await adopted.close()
        found = await scan(folder)
        assert [status.order.replica_id for status in found] == ["r1"]
        both = await EngineConnection.connect(ordered.control_path)
        await both.call("sleep")
        await owner.call("renew")
        assert owner.status.state == both.status.state == "asleep"
        await both.close()


async def test_a_second_engine_in_its_place_is_refused_and_the_first_goes_on(folder):
    ordered = order(folder)
    async with living(ordered) as (first, _):
        await first.wait_ready()
        async with living(ordered) as (second, running):
            assert await running == 1
            with pytest.raises(EngineError, match="replica r1 is running already"):
                await second.wait_ready()
        assert (await call(ordered.http_path, "/echo"))[0] == 200
        assert (await scan(folder))[0].state == "ready"


async def test_a_socket_path_that_is_too_long_is_named(folder):
    async with living(order(folder, "r" * 100)) as (owner, running):
        assert await running == 1
        with pytest.raises(EngineError, match="longer than 107 bytes"):
            await owner.wait_ready()

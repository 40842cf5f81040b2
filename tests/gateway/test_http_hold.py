"""Requests for a model that does not run, over real HTTP and real Redis; the test plays the controller."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from gateway.settings import Limits
from models.store.records import DemandReport, Failure
from tests.gateway.world import World, until, until_async

pytestmark = pytest.mark.anyio


def failure(message: str = "The weights are cut off.", *, retry_in_s: float = 60, permanent: bool = False) -> Failure:
    now = time.time()
    return Failure(
        message=message, code="model_start_failed", at_unix_s=now, retry_at_unix_s=now + retry_in_s, permanent=permanent
    )


async def test_thirty_first_requests_are_held_and_all_answered_when_the_model_is_ready(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m"))
    async with world.client() as session:
        asking = [asyncio.ensure_future(world.chat(session, "m")) for _ in range(30)]
        await world.until_held("m", 30)
        assert engine.seen == []
        await world.announce(world.model("m", "m-1"))
        answers = await asyncio.gather(*asking)
    assert [status for status, _, _ in answers] == [200] * 30
    assert len(engine.seen) == 30
    await world.until_idle("m")


async def test_the_controller_hears_of_the_first_held_request_at_once(world: World) -> None:
    """It learns from the announcement, not by looking: that costs milliseconds, not a period."""
    await world.route(world.model("m"))
    async with world.redis.pubsub() as channel, world.client() as session:
        await channel.subscribe(world.keys.demand_channel)
        asking = asyncio.ensure_future(world.chat(session, "m"))

        async def heard() -> DemandReport | None:
            message = await channel.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is None:
                return None
            report = msgspec.json.decode(message["data"], type=DemandReport)
            assert report.worker == "worker-1"
            return report if "m" in report.models and report.models["m"].held else None

        report = await until_async(heard)
        assert report.models["m"].oldest_held_unix_s == pytest.approx(time.time(), abs=5)
        asking.cancel()


async def test_a_controller_that_starts_models_on_demand_serves_them_all(world: World) -> None:
    """The whole protocol: held, started, routed, answered; one start for each model."""
    names = ["a", "b", "c"]
    await world.route(*(world.model(name) for name in names))
    started: list[str] = []

    async def controller() -> None:
        while len(started) < len(names):
            report = await world.until_report(
                lambda r: any(part.held for name, part in r.models.items() if name not in started)
            )
            for name in [name for name, part in report.models.items() if part.held and name not in started]:
                await world.engine(f"{name}-1")
                started.append(name)
                await world.announce(*(world.model(n, *([f"{n}-1"] if n in started else [])) for n in names))

    async with world.client() as session:
        running = asyncio.ensure_future(controller())
        answers = await asyncio.gather(*(world.chat(session, name) for name in names * 5))
        await running
    assert [status for status, _, _ in answers] == [200] * 15
    assert sorted(started) == names


async def test_a_failed_start_reaches_everybody_who_waits(world: World) -> None:
    await world.route(world.model("m"))
    async with world.client() as session:
        asking = [asyncio.ensure_future(world.chat(session, "m")) for _ in range(5)]
        await world.until_held("m", 5)
        await world.announce(world.model("m", failure=failure()))
        answers = await asyncio.gather(*asking)
        for status, headers, body in answers:
            assert status == 503
            assert body["error"]["code"] == "model_start_failed"
            assert body["error"]["message"] == "The weights are cut off."
            assert 1 <= int(headers["retry-after"]) <= 60
        # and who comes now is told without waiting
        status, _, body = await world.chat(session, "m")
        assert (status, body["error"]["code"]) == (503, "model_start_failed")


async def test_what_can_never_fit_is_not_to_be_retried(world: World) -> None:
    sentence = "m needs 100 GiB, the largest GPU has 1 GiB."
    await world.route(world.model("m", failure=failure(sentence, permanent=True)))
    async with world.client() as session:
        status, headers, body = await world.chat(session, "m")
    assert (status, body["error"]["message"]) == (503, sentence)
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers


async def test_the_callers_own_deadline(world: World) -> None:
    await world.route(world.model("m"))
    async with world.client() as session:
        status, headers, body = await world.chat(session, "m", headers={"x-request-timeout": "0.2"})
        assert (status, body["error"]["code"]) == (503, "model_not_ready")
        assert int(headers["retry-after"]) >= 1
        for wrong in ("soon", "-1", "nan", "inf"):
            status, _, body = await world.chat(session, "m", headers={"x-request-timeout": wrong})
            assert (status, body["error"]["param"]) == (400, "x-request-timeout")


async def test_the_servers_own_deadline_and_limit(bare_world: World) -> None:
    world = bare_world
    await world.start(Limits(hold_timeout_s=1.0, hold_limit=2))
    await world.route(world.model("m"))
    async with world.client() as session:
        waiting = [asyncio.ensure_future(world.chat(session, "m")) for _ in range(2)]
        await world.until_held("m", 2)
        status, headers, body = await world.chat(session, "m")
        assert (status, body["error"]["code"]) == (429, "hold_queue_full")
        assert int(headers["retry-after"]) >= 1
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [503, 503]


async def test_a_caller_who_hangs_up_while_waiting_frees_the_place(bare_world: World) -> None:
    world = bare_world
    await world.start(Limits(hold_timeout_s=60, hold_limit=1))
    engine = await world.engine("m-1")
    await world.route(world.model("m"))
    async with world.client() as session:
        asking = asyncio.ensure_future(world.chat(session, "m"))
        await world.until_held("m", 1)
        asking.cancel()
        await world.until_held("m", 0)
        again = asyncio.ensure_future(world.chat(session, "m"))
        await world.until_held("m", 1)
        await world.announce(world.model("m", "m-1"))
        assert (await again)[0] == 200
    assert len(engine.seen) == 1, "what was given up is not sent"


async def test_a_draining_replica_finishes_what_it_has_and_gets_nothing_new(world: World) -> None:
    old, new = await world.engine("m-1"), await world.engine("m-2")
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        long = asyncio.ensure_future(world.chat(session, "m", stream=True, fake={"do": "stream", "pause_after": 1}))
        await until(lambda: old.open == 1)
        version = await world.route(world.model("m", "m-1", state="draining"))
        report = await world.report()
        assert report is not None
        assert report.replicas == {"m-1": 1}
        held = asyncio.ensure_future(world.chat(session, "m"))
        await world.until_held("m", 1)
        assert len(old.seen) == 1
        old.go_on.set()
        drained = await world.until_report(lambda r: r.routes_version >= version and not r.replicas.get("m-1"))
        assert drained.models["m"].held == 1
        await world.announce(world.model("m", "m-2"))
        assert (await held)[0] == 200
        with pytest.raises(Exception, match="text/event-stream"):  # the answer was a stream, and came to its end
            await long
    assert (len(old.seen), len(new.seen)) == (1, 1)

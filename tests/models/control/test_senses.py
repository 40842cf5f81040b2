"""Nothing is decided in the dark: neither while Redis is away nor before its gateways were heard again."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
from redis.exceptions import ConnectionError as RedisDown

from models.control.demand import DemandBook
from models.control.senses import Senses
from models.store.records import DemandReport
from packers.types import ReplicaId
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio


def report(book: DemandBook, worker: str, now: float) -> None:
    book.put(DemandReport(worker=worker, routes_version=1, sent_unix_s=now), now)


def test_as_a_rule_it_may_decide_at_once() -> None:
    senses, book = Senses(), DemandBook()
    for tenth in range(30):
        senses.look(book, 5.0 + tenth / 10)
        assert senses.may_decide(book, 5.0 + tenth / 10)


def test_a_loop_that_stood_still_waits_for_every_worker_it_knows() -> None:
    senses, book = Senses(), DemandBook()
    senses.look(book, 5.0)
    report(book, "one", 5.0)
    report(book, "other", 5.0)
    senses.look(book, 35.0)
    book.expire(35.0)
    assert book.workers == 2, "it was the loop that was silent"
    assert not senses.may_decide(book, 35.0)
    report(book, "one", 35.1)
    senses.look(book, 35.1)
    assert not senses.may_decide(book, 35.1)
    report(book, "other", 35.2)
    senses.look(book, 35.2)
    assert senses.may_decide(book, 35.2)


def test_it_does_not_wait_for_a_worker_that_has_died_meanwhile() -> None:
    senses, book = Senses(), DemandBook()
    senses.look(book, 5.0)
    report(book, "dead", 5.0)
    now = 35.0
    senses.look(book, now)
    while not senses.may_decide(book, now):
        now += 0.1
        senses.look(book, now)
        book.expire(now)
    assert now == pytest.approx(38.0, abs=0.3)


def test_where_workers_may_be_that_nobody_has_heard_of_it_waits_for_some() -> None:
    senses, book = Senses(), DemandBook()
    senses.doubt(5.0)
    senses.look(book, 5.0)
    assert not senses.may_decide(book, 5.0)
    report(book, "one", 5.4)
    senses.look(book, 5.4)
    assert senses.may_decide(book, 5.4)


def test_an_outage_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    senses = Senses()
    with caplog.at_level(logging.WARNING, "roundhouse.control"):
        for _ in range(5):
            senses.could_not_write(RedisDown("gone"))
        assert not senses.store_answers
        senses.wrote()
        senses.wrote()
    assert [record.getMessage() for record in caplog.records] == [
        "Redis does not take what is to be written, scaling pauses: ConnectionError: gone",
        "Redis answers again, scaling resumes",
    ]


class Dark(Scene):
    """Goes on where Redis does not answer, as ``Controller.run`` does; reports come through Redis, too."""

    async def run(self, seconds: float, step_s: float = 0.01) -> None:
        for _ in range(round(seconds / step_s)):
            await self.turn()
            await self.clock.advance(step_s)

    async def turn(self) -> None:
        self.gateway_alive = self.store.broken is None
        with suppress(RedisDown):
            await super().run(0.01)


async def busy(**more: object) -> Dark:
    scene = Dark([card("a", 60, ttl=2, **more), card("b", 60)])
    scene.hold("a")
    await scene.run(1)
    assert scene.states() == {"a-1": "ready"}
    return scene


async def test_an_outage_puts_nothing_down_that_gateways_go_on_using() -> None:
    scene = await busy()
    scene.busy = {"a-1": 1}
    await scene.run(0.2)
    scene.store.broken = RedisDown("gone")
    await scene.run(30, step_s=0.1)
    scene.store.broken = None
    await scene.run(5)
    assert scene.states() == {"a-1": "ready"}
    assert scene.decided("sleep", "stop") == []


async def test_what_dies_in_an_outage_is_seen_and_replaced_once_that_can_be_written_down() -> None:
    scene = await busy(min_replicas=1)
    scene.store.broken = RedisDown("gone")
    await scene.run(1)
    await scene.fleet.kill(ReplicaId("a-1"))
    await scene.run(20, step_s=0.1)
    assert scene.controller.world.replicas == {}
    assert scene.controller.world.ledger.free_gpu(scene.node.gpus[0].id) == scene.node.gpus[0].memory_bytes
    assert scene.fleet.calls == ["start a-1"]
    scene.store.broken = None
    await scene.run(4)
    assert scene.states() == {"a-2": "ready"}
    assert len(scene.decided("died")) == 1


async def test_a_start_that_was_under_way_comes_to_its_end_in_an_outage() -> None:
    scene = Dark([card("a", 60)])
    scene.hold("a")
    await scene.run(0.2)
    assert scene.states() == {"a-1": "starting"}
    scene.store.broken = RedisDown("gone")
    await scene.run(5, step_s=0.1)
    scene.store.broken = None
    await scene.run(0.1)
    assert scene.states() == {"a-1": "ready"}
    assert scene.held == {}


async def test_a_reply_that_could_not_be_given_is_given_later() -> None:
    scene = await busy()
    order = scene.order("stop", "a", wait=False)
    replied = scene.store.reply
    refused: list[str] = []

    async def refuse(reply: object) -> None:
        refused.append("refused")
        raise RedisDown("gone")

    scene.store.reply = refuse  # type: ignore[method-assign]
    await scene.run(0.1)
    assert refused
    scene.store.reply = replied  # type: ignore[method-assign]
    await scene.run(0.1)
    reply = scene.reply(order)
    assert reply is not None
    assert reply.ok


async def test_a_process_that_was_suspended_puts_nothing_down_when_it_comes_back() -> None:
    """The reports it finds are as old as its sleep: their workers have written others since, which it has not read."""
    scene = await busy()
    scene.busy = {"a-1": 1}
    await scene.run(0.2)
    await scene.clock.advance(30)
    scene.gateway_alive = False
    for _ in range(3):
        scene.controller.step()
        await scene.controller.flush()
        await scene.clock.advance(0.1)
    await scene.run(1)
    assert scene.states() == {"a-1": "ready"}
    assert scene.decided("sleep", "stop") == []

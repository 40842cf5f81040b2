"""Engines that hang: noticed, asked, out, and back. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from random import Random
from typing import Any

from gateway.admit import Admission, Claim, Outcome
from gateway.demand import Demand
from gateway.health import ANSWER_S, FRESH_S, Health
from gateway.routing import Routes
from models.store.records import RouteTable
from packers.types import ReplicaId
from tests.gateway.admit.scene import Request, inquiry, model
from tests.gateway.virtual_time import loop_clock, play

A = ReplicaId("a")


class Engines:
    """What probes find. ``asked``: when and whom."""

    def __init__(self) -> None:
        self.hangs: set[str] = set()
        self.refuses: set[str] = set()
        self.asked: list[tuple[float, str]] = []

    async def probe(self, endpoint: str, timeout_s: float) -> bool:
        self.asked.append((asyncio.get_running_loop().time(), endpoint))
        if endpoint in self.hangs:
            await asyncio.sleep(timeout_s)
            return False
        return endpoint not in self.refuses


class Watch:
    """An admission with its health."""

    def __init__(self, *replicas: str) -> None:
        self.engines = Engines()
        self.admission = Admission(Routes(), Demand(), loop_clock(), rng=Random(0))
        self.ejected: list[tuple[float, str]] = []
        self.health = Health(self.admission, self.engines.probe, self._on_ejected)
        self._version = 0
        self.table(*replicas)

    def table(self, *replicas: str) -> None:
        self._version += 1
        assert self.admission.routes.offer(RouteTable(version=self._version, models=(model(*replicas),)))
        self.admission.routes_changed()

    def claim(self) -> Claim:
        asked = inquiry(deadline_s=1e9)
        claim = self.admission.admit(asked, Request(asked))
        assert claim is not None
        return claim

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            await asyncio.sleep(0.1)
            self.admission.tick()

    def out(self) -> bool:
        return self.admission.rotation.is_out(A)

    def _on_ejected(self, replica: ReplicaId) -> None:
        self.ejected.append((asyncio.get_running_loop().time(), replica))


def story(coroutine: Coroutine[Any, Any, None]) -> None:
    play(coroutine)


def test_an_engine_that_hangs_is_out_well_within_ten_seconds() -> None:
    async def run() -> None:
        watch = Watch("a", "b")
        claim = watch.claim()
        assert claim.replica == A
        watch.engines.hangs.add("unix:/a")
        watch.health.silent(claim)
        watch.health.silent(claim)
        await watch.pass_time(ANSWER_S + 0.1)
        assert watch.ejected == [(ANSWER_S, "a")]
        assert watch.claim().replica == "b"
        await watch.health.close()

    story(run())


def test_a_busy_engine_that_answers_a_probe_stays_in_and_is_not_asked_all_the_time() -> None:
    async def run() -> None:
        watch = Watch("a")
        claim = watch.claim()
        for _ in range(10):
            watch.health.silent(claim)
            await watch.pass_time(0.1)
        assert len(watch.engines.asked) == 1
        assert watch.ejected == []
        await watch.pass_time(FRESH_S)
        watch.health.silent(claim)
        await watch.pass_time(0.1)
        assert len(watch.engines.asked) == 2
        assert not watch.out()

    story(run())


def test_an_engine_that_is_out_is_asked_ever_less_often_and_let_back_when_it_answers() -> None:
    async def run() -> None:
        watch = Watch("a")
        claim = watch.claim()
        watch.engines.refuses.add("unix:/a")
        watch.health.silent(claim)
        await watch.pass_time(30)
        times = [at_s for at_s, _ in watch.engines.asked]
        gaps = [round(later - earlier, 3) for earlier, later in pairwise(times)]
        assert gaps[:5] == [0.25, 0.5, 1.0, 2.0, 4.0]
        assert set(gaps[5:]) == {4.0}
        assert watch.out()
        watch.engines.refuses.clear()
        await watch.pass_time(4)
        assert not watch.out()
        asked = len(watch.engines.asked)
        await watch.pass_time(30)
        assert len(watch.engines.asked) == asked, "and is then left in peace"

    story(run())


def test_those_who_wait_go_when_it_is_back() -> None:
    async def run() -> None:
        watch = Watch("a")
        claim = watch.claim()
        watch.engines.refuses.add("unix:/a")
        watch.health.silent(claim)
        await watch.pass_time(1)
        asked = inquiry(deadline_s=1e9)
        waiting = Request(asked)
        assert watch.admission.admit(asked, waiting) is None
        watch.admission.give_back(claim, Outcome.STALLED)
        watch.engines.refuses.clear()
        await watch.pass_time(5)
        assert waiting.at == "a"

    story(run())


def test_an_engine_that_answers_a_request_after_all_is_asked_no_more() -> None:
    async def run() -> None:
        watch = Watch("a")
        claim = watch.claim()
        watch.engines.refuses.add("unix:/a")
        watch.health.silent(claim)
        await watch.pass_time(1)
        assert watch.out()
        watch.admission.give_back(claim, Outcome.OK)
        assert not watch.out()
        await watch.pass_time(5)
        asked = len(watch.engines.asked)
        await watch.pass_time(20)
        assert len(watch.engines.asked) == asked

    story(run())


def test_one_that_fails_again_and_again_is_tried_by_probes_and_by_nobodys_request() -> None:
    async def run() -> None:
        watch = Watch("a", "b")
        watch.engines.refuses.add("unix:/a")
        for _ in range(3):
            watch.admission.give_back(watch.claim(), Outcome.LOST)
            while watch.out() and not watch.admission.rotation.is_ejected(A):
                await watch.pass_time(0.1)
        await watch.pass_time(30)
        assert watch.out()
        assert watch.claim().replica == "b"
        assert len(watch.engines.asked) >= 5
        watch.engines.refuses.clear()
        await watch.pass_time(5)
        assert not watch.out()
        watch.admission.give_back(watch.claim(), Outcome.LOST)
        assert watch.admission.rotation.is_ejected(A), "a probe answered is no request answered: it is out again"
        await watch.health.close()

    story(run())


def test_a_replica_that_is_gone_is_not_asked_for() -> None:
    async def run() -> None:
        watch = Watch("a", "b")
        claim = watch.claim()
        watch.engines.refuses.add("unix:/a")
        watch.health.silent(claim)
        await watch.pass_time(1)
        assert watch.out()
        watch.table("b")
        watch.admission.give_back(claim, Outcome.STALLED)
        await watch.pass_time(5)
        asked = len(watch.engines.asked)
        await watch.pass_time(20)
        assert len(watch.engines.asked) == asked
        watch.health.silent(claim)
        await watch.pass_time(5)
        assert watch.ejected == [(0.0, "a")], "who is gone already is not put out"

    story(run())


def test_closing_ends_all_questions() -> None:
    async def run() -> None:
        watch = Watch("a")
        watch.engines.hangs.add("unix:/a")
        watch.health.silent(watch.claim())
        await watch.pass_time(1)
        await watch.health.close()
        assert len(asyncio.all_tasks()) == 1
        await watch.pass_time(10)
        assert watch.ejected == []

    story(run())

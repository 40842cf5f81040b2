"""``/metrics`` of several workers: what was counted never goes down, whoever dies."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from gateway.siblings import Siblings
from gateway.worker_metrics import WORKERS, Answer, Seen, WorkerMetrics, add_up
from tests.gateway.test_exposition import values

pytestmark = pytest.mark.anyio


class Life:
    """One worker's figures from its start on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._registry = CollectorRegistry()
        self.requests = Counter("rh_requests_total", "Requests.", registry=self._registry)
        self.held = Gauge("rh_held", "Held.", registry=self._registry)
        self.version = Gauge("roundhouse_routes_version", "Version.", registry=self._registry)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    @property
    def answer(self) -> Answer:
        return Answer(self.name, self.render())


def shown(text: bytes) -> tuple[float, float, float]:
    """Requests, held, workers that answer."""
    got = values(text)
    return got["rh_requests_total", ""], got["rh_held", ""], got[WORKERS, ""]


def test_a_successor_goes_on_from_where_the_dead_one_was_last_seen() -> None:
    first, other = Life("first"), Life("other")
    first.requests.inc(10)
    other.requests.inc(1)
    first.held.set(4)
    text, seen = add_up(Seen(), {0: first.answer, 1: other.answer})
    assert shown(text) == (11, 4, 2)
    text, seen = add_up(seen, {1: other.answer})
    assert shown(text) == (11, 0, 1), "nobody answers for it; nobody is held there either"
    successor = Life("successor")
    text, seen = add_up(seen, {0: successor.answer, 1: other.answer})
    assert shown(text) == (11, 0, 2)
    successor.requests.inc(5)
    text, seen = add_up(seen, {0: successor.answer, 1: other.answer})
    assert shown(text) == (16, 0, 2)
    third = Life("third")
    assert shown(add_up(seen, {0: third.answer, 1: other.answer})[0]) == (16, 0, 2)


def test_the_table_in_force_is_that_of_the_slowest() -> None:
    lives = [Life(str(number)) for number in range(2)]
    for version, life in zip((8, 7), lives, strict=True):
        life.version.set(version)
    text, _ = add_up(Seen(), {0: lives[0].answer, 1: lives[1].answer})
    assert values(text)["roundhouse_routes_version", ""] == 7


STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(("count", "die", "hang", "wake", "scrape"))), max_size=40)


@given(STEPS)
def test_the_sum_never_falls_and_loses_only_what_nobody_saw(steps: list[tuple[int, str]]) -> None:
    lives, silent = [Life(f"{number}.0") for number in range(3)], set()
    seen, last, total, unseen = Seen(), 0.0, 0, [0, 0, 0]
    for count, (number, what) in enumerate(steps):
        if what == "count":
            lives[number].requests.inc()
            total, unseen[number] = total + 1, unseen[number] + 1
        elif what == "die":
            lives[number] = Life(f"{number}.{count}")
            total, unseen[number] = total - unseen[number], 0
        elif what == "hang":
            silent.add(number)
        elif what == "wake":
            silent.discard(number)
        else:
            answers = {index: life.answer for index, life in enumerate(lives) if index not in silent}
            for index in answers:
                unseen[index] = 0
            text, seen = add_up(seen, answers)
            if "rh_requests_total" in text.decode():
                now = shown(text)[0] if answers else values(text)["rh_requests_total", ""]
                assert now == total - sum(unseen)
                assert now >= last
                last = now


async def test_whoever_is_scraped_shows_all(sockets: Path) -> None:
    lives = [Life("a"), Life("b"), Life("c")]
    siblings = [Siblings(index, 3, sockets) for index in range(3)]
    figures = [WorkerMetrics(who, life.name, life.render) for who, life in zip(siblings, lives, strict=True)]
    for count, (who, life) in enumerate(zip(siblings, lives, strict=True)):
        life.requests.inc(10**count)
        await who.open()
    assert [shown(await each.together()) for each in figures] == [(111, 0, 3)] * 3
    await siblings[2].close()
    lives[0].requests.inc(5)
    assert shown(await figures[1].together()) == (116, 0, 2)
    reborn, life = Siblings(2, 3, sockets), Life("c2")
    WorkerMetrics(reborn, life.name, life.render)
    await reborn.open()
    life.requests.inc(1)
    assert shown(await figures[0].together()) == (117, 0, 3)
    for each in (*siblings, reborn):
        await each.close()


async def test_a_worker_alone_shows_its_own_text() -> None:
    life = Life("only")
    assert await WorkerMetrics(Siblings(), life.name, life.render).together() == life.render()


async def test_a_broken_memory_is_begun_anew(sockets: Path) -> None:
    life = Life("a")
    life.requests.inc(3)
    figures = WorkerMetrics(Siblings(0, 2, sockets), life.name, life.render)
    (sockets / "metrics.seen").write_bytes(b"half")
    assert shown(await figures.together()) == (3, 0, 1)
    assert shown(await figures.together()) == (3, 0, 1)

"""The simulator and the controller on a virtual fleet, given the same requests, do the same."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest

from models.catalog.card import ModelCard
from models.control.messages import Reported
from models.store.records import DemandReport, ModelDemand
from packers.sim import SimOptions, SimWorld, StartUp, TierTime, Trace, simulate
from packers.types import Model, ModelId, Node
from tests.models.control.scene import MIB, Scene, card, entry
from tests.packers.worlds import PLAIN

pytestmark = pytest.mark.anyio

AS_VIRTUAL_FLEET = StartUp(disk=TierTime(1.0), host=TierTime(0.1), sleep=TierTime(0.1), stop_s=0.1)
STEP_S = 0.01
LATE_S = 0.2  # reports, steps and the news that gateways know of a drain take the controller a few steps
ACTIONS = ("start", "wake", "sleep", "stop")


@dataclass
class _Traffic:
    """A gateway that plays a trace: least in flight, and a queue per model while nobody is ready."""

    trace: Trace
    begin_s: float
    next: int = 0
    queues: dict[str, deque[int]] = field(default_factory=dict)
    running: dict[str, list[float]] = field(default_factory=dict)  # replica -> when each request ends
    last: dict[str, float] = field(default_factory=dict)
    waits_s: dict[int, float] = field(default_factory=dict)

    def model(self, number: int) -> str:
        return self.trace.names[int(self.trace.model[number])]

    def at_s(self, number: int) -> float:
        return self.begin_s + float(self.trace.at_s[number])


class Played(Scene):
    """A scene in which the gateway has the requests of a trace."""

    def __init__(self, trace: Trace, cards: list[ModelCard], gpus_mib: tuple[int, ...], host_mib: int) -> None:
        super().__init__(cards, gpus_mib=gpus_mib, host_mib=host_mib)
        self.traffic = _Traffic(trace, self.clock())

    def _report(self) -> None:
        now, traffic = self.clock(), self.traffic
        while traffic.next < len(traffic.trace) and traffic.at_s(traffic.next) <= now:
            traffic.queues.setdefault(traffic.model(traffic.next), deque()).append(traffic.next)
            traffic.next += 1
        self._serve()
        for ends_s in traffic.running.values():
            while ends_s and ends_s[0] <= now:
                heapq.heappop(ends_s)
        models = {of.model_id: self._demand(of.model_id) for of in self.cards}
        busy = {replica: len(ends_s) for replica, ends_s in traffic.running.items() if ends_s}
        version = self.store.routes.version
        report = DemandReport(worker="g", routes_version=version, sent_unix_s=now, models=models, replicas=busy)
        self.controller.post(Reported(report))

    def _demand(self, model: str) -> ModelDemand:
        traffic = self.traffic
        queue = traffic.queues.get(model)
        mine = [ends_s for replica, ends_s in traffic.running.items() if replica.rpartition("-")[0] == model]
        return ModelDemand(
            in_flight=sum(len(ends_s) for ends_s in mine),
            held=len(queue) if queue else 0,
            oldest_held_unix_s=traffic.at_s(queue[0]) if queue else None,
            last_request_unix_s=traffic.last.get(model, 0.0),
        )

    def _serve(self) -> None:
        now, traffic = self.clock(), self.traffic
        for route in self.store.routes.models:
            ready = [one.replica_id for one in route.replicas if one.state == "ready"]
            queue = traffic.queues.get(route.model_id, deque())
            while ready and queue:
                number = queue.popleft()
                chosen = min(ready, key=lambda one: (len(traffic.running.get(one, ())), one))
                traffic.waits_s[number] = now - traffic.at_s(number)
                heapq.heappush(traffic.running.setdefault(chosen, []), now + float(traffic.trace.service_s[number]))
                traffic.last[route.model_id] = now


def models_of(cards: list[ModelCard]) -> tuple[Model, ...]:
    return tuple(
        Model(
            id=ModelId(of.model_id),
            footprint=entry(of).footprint,
            min_replicas=of.min_replicas,
            max_replicas=of.max_replicas,
            ttl_s=of.ttl,
            priority=of.priority,
            pinned=of.pinned,
            can_sleep=of.can_sleep,
            target_in_flight=of.target_in_flight,
        )
        for of in cards
    )


def random_trace(seed: int, names: str, count: int) -> Trace:
    """Far enough apart that a few late steps do not change who comes first."""
    rng = np.random.default_rng(seed)
    at_s = np.cumsum(rng.choice([0.5, 1.0, 2.5, 6.0], count)) + rng.uniform(0, 0.05, count)
    return Trace.of(names, at_s, rng.integers(0, len(names), count), rng.choice([0.25, 1.25, 4.25], count))


async def both(
    trace: Trace,
    cards: list[ModelCard],
    gpus_mib: tuple[int, ...] = (100,),
    host_mib: int = 4096,
    tick_s: float = 0.0,
) -> tuple[list[tuple[float, str, str, str]], list[tuple[float, str, str, str]], list[tuple[float, float]]]:
    """(when, action, model, GPU) as the controller has done it and as simulated, and the waits of each request.

    The controller decides every 10 ms; the simulator only when something could come of it (``tick_s`` 0), but for
    further replicas, which are called for by nothing but traffic.
    """
    scene = Played(trace, cards, gpus_mib, host_mib)
    begin_s = scene.clock()
    await scene.run(trace.duration_s + 12.0, STEP_S)
    done = [(one.at_unix_s - begin_s, one.action, str(one.model_id), str(one.gpu)) for one in scene.decided(*ACTIONS)]
    world = SimWorld(
        gpus=scene.node.gpus,
        nodes=(Node(scene.node.id, host_mib * MIB),),
        models=models_of(cards),
        startup=AS_VIRTUAL_FLEET,
    )
    options = SimOptions(until_s=trace.duration_s + 12.0, tick_s=tick_s, keep_waits=True)
    found = simulate(trace, world, PLAIN, options)
    simulated = [(one.at_s, one.action, str(one.model), str(one.gpu)) for one in found.decisions.last]
    assert found.waits_s is not None
    waits = [(scene.traffic.waits_s.get(number, -1.0), float(wait)) for number, wait in enumerate(found.waits_s)]
    return done, simulated, waits


def assert_alike(
    done: list[tuple[float, str, str, str]],
    simulated: list[tuple[float, str, str, str]],
    waits: list[tuple[float, float]],
) -> None:
    assert [one[1:] for one in done] == [one[1:] for one in simulated]
    assert len(done) >= 3, "hardly anything happened"
    for real, guess in zip(done, simulated, strict=True):
        assert real[0] == pytest.approx(guess[0], abs=LATE_S), (real, guess)
    for waited_s, guessed_s in waits:
        assert waited_s == pytest.approx(guessed_s, abs=LATE_S)


@pytest.mark.parametrize("seed", range(6))
async def test_models_take_turns_on_two_gpus(seed: int) -> None:
    cards = [card("a", 60), card("b", 50), card("c", 40), card("d", 70)]
    assert_alike(*await both(random_trace(seed, "abcd", 25), cards, gpus_mib=(100, 100)))


async def test_the_traces_make_everything_happen() -> None:
    cards = [card("a", 60), card("b", 50), card("c", 40), card("d", 70)]
    done, _, _ = await both(random_trace(0, "abcd", 25), cards, gpus_mib=(100,), host_mib=110)
    assert {one[1] for one in done} == set(ACTIONS)


@pytest.mark.parametrize("seed", range(4))
async def test_little_host_ram_makes_sleepers_give_way(seed: int) -> None:
    cards = [card("a", 60), card("b", 50), card("c", 40), card("d", 70)]
    assert_alike(*await both(random_trace(seed, "abcd", 25), cards, gpus_mib=(100,), host_mib=110))


@pytest.mark.parametrize("seed", range(4))
async def test_ttl_priorities_and_pins(seed: int) -> None:
    cards = [
        card("a", 60, ttl=3.0),
        card("b", 50, priority=2),
        card("c", 40, can_sleep=False),
        card("d", 30, pinned=True),
    ]
    assert_alike(*await both(random_trace(seed, "abcd", 25), cards, gpus_mib=(100, 60)))


async def test_a_second_replica_under_load() -> None:
    cards = [card("a", 40, max_replicas=2, target_in_flight=2, ttl=5.0), card("b", 40)]
    calls = [0.0, 2.0, 2.1, 2.2, 2.3, 2.4, 8.0, 12.0]
    trace = Trace.of("ab", calls, [0] * 7 + [1], [4.0] * 8)
    assert_alike(*await both(trace, cards, gpus_mib=(100, 100), tick_s=0.1))

"""One node as the fleet follows it: met, silent, back, replaced, lost; with actors played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from models.fleet import ray_node
from models.fleet.node_actor import Greeting
from models.fleet.node_place import NodeSettings
from models.fleet.node_watch import NodeFacts
from models.fleet.protocol import FleetEvent, FleetNode, StartFailed
from models.fleet.ray_calls import NodeGivenUp
from models.fleet.ray_node import Incarnation, RayNode
from packers.types import Gpu, GpuId, NodeId

pytestmark = pytest.mark.anyio
N = NodeId("n")
SHOWN = FleetNode(id=N, address="10.0.0.1", host_bytes=1, gpus=(Gpu(GpuId("n/gpu-0"), N, 0, 1),), run_dir="/run/x")


class Method:
    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self.remote = call


@dataclass
class Actor:
    """``silent``: calls hang, as over a cut link; ``down``: they fail at once, as when its process is gone."""

    silent: bool = False
    down: bool = False
    facts_now: NodeFacts = field(default_factory=NodeFacts)
    calls: list[str] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    async def _answer(self, name: str, answer: Any) -> Any:
        self.calls.append(name)
        while self.silent:
            await asyncio.sleep(0.001)
        if self.down:
            raise ActorUnavailableError("for now", None)
        return answer

    def _greet(self, epoch: int) -> Awaitable[Any]:
        self.epochs.append(epoch)
        return self._answer("greet", Greeting(node=SHOWN, facts=self.facts_now, engines=()))

    async def _facts(self, known: NodeFacts, within_s: float) -> Any:
        await self._answer("facts", None)
        while self.facts_now == known:
            await asyncio.sleep(0.001)
        return self.facts_now

    def __getattr__(self, name: str) -> Method:
        def plain(*args: object) -> Awaitable[Any]:
            return self._answer(name, name)

        made: dict[str, Callable[..., Awaitable[Any]]] = {"greet": self._greet, "facts": self._facts}
        return Method(made.get(name, plain))


@dataclass
class Stage:
    monkeypatch: pytest.MonkeyPatch
    actors: dict[str, Actor] = field(default_factory=dict)
    events: list[FleetEvent] = field(default_factory=list)
    given_up: bool | None = False
    now: float = 0.0
    killed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("PING_EVERY_S", "RETRY_S"):
            self.monkeypatch.setattr(ray_node, name, 0.002)
        self.monkeypatch.setattr(Incarnation, "make", staticmethod(self._make))
        self.monkeypatch.setattr(Incarnation, "kill", lambda one: self.killed.append(one.ray_node))
        settings = NodeSettings(node=N, home="/h", simulated=None, host_bytes=None)
        self.node = RayNode(settings, self._hear, lambda: 7, lambda: self.now)

    def _make(self, settings: NodeSettings, ray_id: str) -> Incarnation:
        actor = self.actors.setdefault(ray_id, Actor())
        return Incarnation(ray_id, actor, actor)

    async def _hear(self, event: FleetEvent) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    async def until(self, condition: Callable[[], bool], by_s: float = 0.0) -> None:
        """``by_s``: how far the clock moves in each turn."""
        async with asyncio.timeout(10):
            while not condition():
                self.now += by_s
                await asyncio.sleep(0.002)

    def attend(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self.node.attend(lambda: self.given_up))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


async def test_it_is_met_with_what_stands_told_after_it(stage: Stage) -> None:
    stage.actors["1"] = Actor(facts_now=NodeFacts(lost={"n/gpu-0": "broken"}, leaving_unix_s=9.0, leaving_reason="r"))
    assert stage.node.wants("1")
    assert await stage.node.meet("1")
    assert stage.kinds == ["NodeJoined", "GpuLost", "NodeLeaving"]
    assert stage.actors["1"].epochs == [7], "it is told whom to obey"
    assert not stage.node.wants("1")
    assert stage.node.shown == SHOWN


async def test_one_that_cannot_be_met_is_tried_again_later_and_later(stage: Stage, caplog: Any) -> None:
    stage.actors["1"] = Actor(down=True)
    waits = []
    for _ in range(4):
        assert not await stage.node.meet("1")
        waited_ms = 0
        while not stage.node.wants("1"):
            stage.now += 0.001
            waited_ms += 1
        waits.append(waited_ms)
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]
    assert stage.events == []
    assert not stage.node.answers
    assert "the Ray actor is gone" in stage.node.problem
    assert len([record for record in caplog.records if "cannot be used" in record.message]) == 1
    stage.actors["1"].down = False
    assert await stage.node.meet("1")
    assert stage.node.problem == ""


async def test_silence_is_told_and_its_end_with_what_is_there_now(stage: Stage) -> None:
    await stage.node.meet("1")
    attending = stage.attend()
    stage.actors["1"].silent = True
    await stage.until(lambda: "NodeAway" in stage.kinds, by_s=0.5)
    assert not stage.node.answers
    with pytest.raises(StartFailed, match="n does not answer"):
        await stage.node.once(lambda now: now.actor.pid.remote(), 1.0)
    waiting = asyncio.ensure_future(stage.node.insist(lambda now: now.actor.wake.remote()))
    stage.actors["1"].silent = False
    assert await waiting == "wake"
    assert stage.kinds == ["NodeJoined", "NodeAway", "NodeJoined"]
    attending.cancel()


async def test_answers_that_come_late_each_time_are_answers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_node, "PING_EVERY_S", 0.01)
    await stage.node.meet("1")
    actor = stage.actors["1"]
    attending = stage.attend()
    for _ in range(6):  # three seconds each
        actor.silent = True
        asked = actor.calls.count("pid")
        await stage.until(lambda asked=asked: actor.calls.count("pid") > asked)  # type: ignore[misc]
        stage.now += 3.0
        await asyncio.sleep(0.03)
        assert actor.calls.count("pid") == asked + 1, "one question at a time"
        actor.silent = False
        await stage.until(lambda asked=asked: actor.calls.count("pid") > asked + 1)  # type: ignore[misc]
    assert stage.kinds == ["NodeJoined"]
    attending.cancel()


async def test_a_call_is_repeated_until_its_actor_is_there_again(stage: Stage) -> None:
    await stage.node.meet("1")
    stage.actors["1"].down = True
    gone: list[int] = []
    waiting = asyncio.ensure_future(stage.node.insist(lambda now: now.actor.sleep.remote(), lambda: gone.append(1)))
    await stage.until(lambda: stage.actors["1"].calls.count("sleep") >= 3)
    stage.actors["1"].down = False
    assert await waiting == "sleep"
    assert len(gone) >= 3


async def test_when_ray_was_started_anew_on_it_calls_go_to_the_new_actors_and_the_old_ones_are_ended(
    stage: Stage,
) -> None:
    await stage.node.meet("1")
    attending = stage.attend()
    stage.actors["1"].silent = True
    hanging = asyncio.ensure_future(stage.node.insist(lambda now: now.actor.start.remote()))
    await stage.until(lambda: stage.node.wants("2"), by_s=0.5)
    assert await stage.node.meet("2")
    assert await hanging == "start"
    assert stage.actors["2"].calls.count("start") == 1
    assert stage.killed == ["1"]
    attending.cancel()


async def test_while_it_answers_another_of_its_name_is_not_wanted(stage: Stage) -> None:
    await stage.node.meet("1")
    assert not stage.node.wants("2"), "Ray lists nodes that are over for a while"


@pytest.mark.parametrize("ray_knows", [True, False])
async def test_when_it_is_lost_whoever_waits_is_told_and_it_may_come_again(stage: Stage, ray_knows: bool) -> None:
    await stage.node.meet("1")
    attending = stage.attend()
    stage.given_up = ray_knows
    stage.actors["1"].silent = True
    hanging = asyncio.ensure_future(stage.node.insist(lambda now: now.keeper.watch.remote()))
    await stage.until(lambda: "NodeLost" in stage.kinds, by_s=0.5)
    assert stage.kinds == ["NodeJoined", "NodeAway", "NodeLost"]
    with pytest.raises(NodeGivenUp, match="n was given up: n has not answered for"):
        await hanging
    with pytest.raises(NodeGivenUp):
        await stage.node.insist(lambda now: now.actor.wake.remote())
    stage.actors["1"].silent = False
    assert stage.node.wants("1")
    assert await stage.node.meet("1")
    assert stage.kinds[-1] == "NodeJoined"
    assert await stage.node.insist(lambda now: now.actor.wake.remote()) == "wake"
    attending.cancel()


async def test_while_rays_head_is_away_nothing_is_lost(stage: Stage) -> None:
    await stage.node.meet("1")
    attending = stage.attend()
    stage.given_up = None
    stage.actors["1"].silent = True
    await stage.until(lambda: stage.now > 500.0, by_s=5.0)
    assert stage.kinds == ["NodeJoined", "NodeAway"]
    attending.cancel()


async def test_gpus_and_a_notice_come_and_go(stage: Stage) -> None:
    await stage.node.meet("1")
    attending = stage.attend()
    actor = stage.actors["1"]
    actor.facts_now = NodeFacts(lost={"n/gpu-0": "broken"})
    await stage.until(lambda: stage.kinds[-1] == "GpuLost")
    actor.facts_now = NodeFacts(leaving_unix_s=5.0, leaving_reason="spot")
    await stage.until(lambda: stage.kinds[-1] == "NodeLeaving")
    assert stage.kinds == ["NodeJoined", "GpuLost", "GpuBack", "NodeLeaving"]
    actor.facts_now = NodeFacts()
    await stage.until(lambda: len(stage.kinds) == 5)
    assert stage.kinds[-1] == "NodeJoined", "it stays after all"
    attending.cancel()


async def test_an_answer_that_takes_too_long_is_none(stage: Stage) -> None:
    await stage.node.meet("1")
    stage.actors["1"].silent = True
    with pytest.raises(StartFailed, match=r"n has not answered for 0\.01 s"):
        await stage.node.once(lambda now: now.actor.scan.remote(), 0.01)

"""Down to asleep and then to nothing, and up again before anybody asks: over hours and days of virtual time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from models.control.messages import Reported
from models.store.records import DemandReport, ModelDemand
from packers.decide import Policies
from tests.models.control.scene import Scene, card
from tests.packers.worlds import PLAIN

pytestmark = pytest.mark.anyio
DAY_S = 86_400.0
TWO_PM = 1_000_800.0  # 14:00 UTC on the day on which virtual time begins


async def called(scene: Scene, name: str, every_s: float, times: int, step_s: float = 0.1) -> None:
    for _ in range(times):
        scene.hold(name)
        await scene.run(every_s, step_s)


async def test_a_model_falls_asleep_after_its_ttl_and_ends_after_ten_of_them() -> None:
    scene = Scene([card("a", 60, ttl=10)])
    scene.hold("a")
    await scene.run(10.5, 0.1)
    assert scene.states() == {"a-1": "ready"}
    await scene.run(1.0, 0.1)
    assert scene.states() == {"a-1": "asleep"}
    await scene.run(85, 0.5)
    assert scene.states() == {"a-1": "asleep"}
    await scene.run(10, 0.5)
    assert scene.states() == {}
    assert "unused for" in scene.decided("stop")[0].reason


async def test_one_that_is_called_once_a_ttl_stays_and_once_in_ten_only_wakes() -> None:
    scene = Scene([card("a", 60, ttl=10)])
    await called(scene, "a", 9.0, 20)
    assert scene.decided("sleep", "stop") == []
    await called(scene, "a", 60.0, 10)
    assert len(scene.decided("start")) == 1, "from disk once, ever"
    assert len(scene.decided("sleep")) == 10
    assert len(scene.decided("wake")) == 9
    assert scene.decided("stop") == []


async def test_after_a_spike_the_surplus_leaves_and_a_dip_does_not_move_anybody() -> None:
    scene = Scene([card("a", 40, ttl=30, max_replicas=3, target_in_flight=1)], (100, 100))
    scene.hold("a")
    await scene.run(2)
    scene.busy = {"a-1": 2}
    await scene.run(2, 0.1)
    for _ in range(20):  # two in flight, for a moment nothing, and again
        scene.busy = {"a-1": 1, "a-2": 1}
        await scene.run(4, 0.1)
        scene.busy = {}
        await scene.run(2, 0.1)
    assert len(scene.decided("start")) == 2
    assert scene.decided("sleep", "stop") == [], "the dips are shorter than its ttl"
    scene.busy = {"a-1": 1}
    await scene.run(40, 0.2)
    assert sorted(scene.states().values()) == ["asleep", "ready"]
    scene.busy = {"a-1": 2}
    await scene.run(2, 0.1)
    assert sorted(scene.states().values()) == ["ready", "ready"]
    assert len(scene.decided("wake")) == 1


@dataclass
class Load:
    """Of the model a: requests a second, each of which takes 2 s."""

    per_s: float = 0.0
    arrived: int = 0
    carried: float = 0.0


class Day(Scene):
    """A gateway that tells of steady traffic, and of how long its requests took."""

    def __init__(self, policies: Policies, **more: object) -> None:
        super().__init__([card("a", 20, target_in_flight=1, **more)], (100, 100))
        self.controller._policies = policies
        self.load, self.told_s = Load(), self.clock()

    def _report(self) -> None:
        now, load = self.clock(), self.load
        load.carried += load.per_s * (now - self.told_s)
        load.arrived, load.carried, self.told_s = load.arrived + int(load.carried), load.carried % 1, now
        ready = [one for one, state in self.states().items() if state == "ready"]
        flying = round(load.per_s * 2.0) if ready else 0
        held = int(load.per_s > 0 and not ready)
        demand = ModelDemand(
            in_flight=flying,
            held=held,
            oldest_held_unix_s=now if held else None,
            last_request_unix_s=now if load.per_s else 0.0,
            arrived=load.arrived,
            finished=load.arrived,
            busy_s=2.0 * load.arrived,
        )
        report = DemandReport(
            worker="g",
            routes_version=self.store.routes.version,
            sent_unix_s=now,
            models={"a": demand},
            replicas=dict.fromkeys(ready[:1], flying) if flying else {},
        )
        self.controller.post(Reported(report))

    async def until(self, at_s: float, step_s: float) -> None:
        await self.run(at_s - self.clock(), step_s)


async def test_what_came_at_this_time_yesterday_is_there_before_it_comes_today() -> None:
    scene = Day(replace(PLAIN, scaling="forecast"), max_replicas=5, ttl=60)
    await scene.until(TWO_PM, 5.0)
    scene.load.per_s = 1.5
    await scene.until(TWO_PM + 1200, 2.0)
    scene.load.per_s = 0.0
    await scene.until(TWO_PM + DAY_S - 60, 60.0)
    ready = [one for one, state in scene.states().items() if state == "ready"]
    assert ready == [], "the night was long"
    since_s = scene.clock()
    await scene.until(TWO_PM + DAY_S + 10, 1.0)
    begun = [one for one in scene.decided("start", "wake") if one.at_unix_s >= since_s]
    assert len(begun) >= 3, "as many as yesterday's three requests at once needed"
    assert all("at this time of earlier days" in one.reason for one in begun)
    assert sum(state == "ready" for state in scene.states().values()) >= 3, "and nobody has called yet"


async def test_a_model_that_is_called_every_minute_is_brought_back_before_the_next_call() -> None:
    policies = replace(PLAIN, eviction="ours", prewarm=True)
    scene = Scene([card("a", 60, ttl=20), card("b", 60, ttl=7200)], (100, 100))
    scene.controller._policies = policies
    scene.hold("b")
    await scene.run(5)
    await called(scene, "a", 60.0, 30, 0.25)
    brought = [one for one in scene.decided("wake") if "brought back before anybody asks for it" in one.reason]
    assert len(brought) >= 5
    assert "likely to be used soon" in brought[0].reason
    none = Scene([card("a", 60, ttl=20), card("b", 60, ttl=7200)], (100, 100))
    none.controller._policies = replace(policies, prewarm=False)
    await called(none, "a", 60.0, 5, 0.25)
    assert not [one for one in none.decided("wake") if "brought back" in one.reason]

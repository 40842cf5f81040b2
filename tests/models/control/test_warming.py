"""Models that are kept warm: by order, by schedule, across restarts, and what is said when there is no room for it.

Virtual time begins on Monday, 1970-01-12 13:46:40 UTC.
"""

from __future__ import annotations

import msgspec
import pytest

from models.catalog.card import ModelCard
from models.control.floors import FloorBook, moment, with_floor
from models.control.messages import CatalogChanged, Ordered
from models.store.records import Command, CommandReply, FleetRecord, WarmRecord
from packers.types import ModelId
from tests.models.control.scene import Scene, card
from tests.packers.worlds import model, world

pytestmark = pytest.mark.anyio
TWO_PM = 1_000_800.0  # 14:00 UTC on that day


class Warm(Scene):
    def warm(
        self,
        name: str,
        replicas: int | None = 1,
        for_s: float | None = None,
        *,
        wait: bool = False,
        dry_run: bool = False,
    ) -> str:
        until_s = None if for_s is None else self.clock() + for_s
        command = Command(
            id=f"w{len(self.store.replies)}",
            verb="warm",
            model_id=name,
            replicas=replicas,
            until_unix_s=until_s,
            wait=wait,
            dry_run=dry_run,
        )
        self.controller.post(Ordered(command))
        return command.id

    async def answered(
        self, name: str, replicas: int | None = 1, for_s: float | None = None, *, dry_run: bool = False
    ) -> CommandReply:
        command = self.warm(name, replicas, for_s, dry_run=dry_run)
        await self.run(0.05)
        reply = self.reply(command)
        assert reply is not None
        return reply

    @property
    def kept(self) -> tuple[WarmRecord, ...]:
        assert self.store.fleet is not None
        return self.store.fleet.warm

    def ready(self, name: str) -> int:
        return sum(state == "ready" and replica.startswith(f"{name}-") for replica, state in self.states().items())

    def said(self, *actions: str) -> list[str]:
        return [decision.reason for decision in self.decided(*actions)]


def scheduled(name: str, *hours: dict[str, object], **more: object) -> ModelCard:
    return card(name, 60, schedule=tuple({"from": h.pop("begin"), **h} for h in hours), **more)


async def test_two_replicas_are_kept_until_the_time_is_over_and_then_leave() -> None:
    scene = Warm([card("a", 40, aliases=("first",), max_replicas=2, ttl=5)])
    reply = await scene.answered("first", 2, for_s=30)
    assert reply.ok
    assert reply.message == f"2 replicas of a are kept warm until {moment(scene.clock() - 0.05 + 30)}"
    assert reply.detail["replicas"] == 2
    await scene.run(3)
    assert scene.ready("a") == 2
    assert [(one.model_id, one.by, one.state, one.ready) for one in scene.kept] == [("a", "operator", "warm", 2)]
    await scene.run(20)
    assert scene.ready("a") == 2, "although nobody has called it for four times its ttl"
    await scene.run(10)
    assert scene.states() == {"a-1": "asleep", "a-2": "asleep"}
    assert scene.kept == ()
    assert scene.said("warm")[0].startswith("2 replicas of a: an operator keeps 2 warm until 1970-01-12")
    assert scene.said("warmed") == ["2 of 2 replicas of a ready, 2 s after they were to be there"]
    assert scene.said("warm_over") == ["a is not kept warm any longer"]
    assert "an operator keeps 2 warm" in scene.decided("start")[0].reason


async def test_it_is_kept_from_others_of_its_priority() -> None:
    scene = Warm([card("a", 60, ttl=1), card("b", 60), card("vip", 60, priority=1)])
    scene.warm("a")
    await scene.run(2)
    scene.hold("b")
    await scene.run(3)
    assert scene.states() == {"a-1": "ready"}
    assert "In the way on n/gpu-0: a (kept warm)" in scene.decided("hold")[-1].reason
    scene.held.clear()
    scene.hold("vip")
    await scene.run(1.5)
    assert scene.ready("vip") == 1, "as with min_replicas: higher priority goes first"
    await scene.run(1)
    assert [(one.state, one.ready) for one in scene.kept] == [("coming", 0)]
    assert "vip (of higher priority)" in scene.kept[0].reason


async def test_an_order_outlives_the_controller_and_is_then_called_off() -> None:
    scene = Warm([card("a", 60, ttl=1)])
    await scene.answered("a")
    await scene.run(2)
    assert await scene.restart_controller() == 1
    await scene.run(5)
    assert scene.ready("a") == 1
    assert [(one.model_id, one.until_unix_s) for one in scene.kept] == [("a", None)]
    off = await scene.answered("a", 0)
    assert (off.ok, off.message) == (True, "a is not kept warm any longer")
    await scene.run(2)
    assert scene.states() == {"a-1": "asleep"}
    assert (await scene.answered("a", 0)).message == "no order keeps a warm"


async def test_an_order_of_a_controller_long_gone_has_ended() -> None:
    book = FloorBook()
    record = WarmRecord(
        model_id="a", by="operator", asked=3, replicas=2, from_unix_s=1.0, until_unix_s=100.0, state="warm"
    )
    fleet = FleetRecord(seq=1, updated_unix_s=1.0, controller_pid=1, warm=(record,))
    written = msgspec.json.decode(msgspec.json.encode(fleet), type=FleetRecord)
    book.recall(written.warm, 100.0)
    assert book.orders == {}
    book.recall(written.warm, 99.0)
    assert book.orders[ModelId("a")].replicas == 3, "as it was asked for: max_replicas may be raised meanwhile"
    planned = msgspec.structs.replace(record, by="schedule")
    other = FloorBook()
    other.recall((planned,), 1.0)
    assert other.orders == {}, "schedules come from the cards"


async def test_max_replicas_bounds_it_and_what_has_no_room_is_said() -> None:
    scene = Warm([card("a", 60, max_replicas=3)], gpus_mib=(100, 100))
    reply = await scene.answered("a", 7)
    assert (
        reply.message
        == "3 replicas of a are kept warm until that is called off; 7 were asked for, its max_replicas is 3"
    )
    await scene.run(4)
    (record,) = scene.kept
    assert (record.asked, record.replicas, record.ready, record.state) == (7, 3, 2, "coming")
    await scene.run(6)
    (record,) = scene.kept
    assert (record.ready, record.state) == (2, "short")
    assert "20 MiB short" in record.reason
    (said,) = scene.said("warm_short")
    assert said.startswith("2 of 3 replicas of a: a needs 60 MiB of GPU memory")
    await scene.run(10)
    assert len(scene.said("warm_short")) == 1, "said once, not at every step"


async def test_whoever_waits_hears_when_all_are_ready_or_why_not() -> None:
    scene = Warm([card("a", 60), card("bad", 30)])
    scene.fleet.fail_start["bad"] = "the weights are not there"
    command = scene.warm("a", wait=True)
    await scene.run(0.5)
    assert scene.reply(command) is None
    await scene.run(1)
    assert scene.reply(command) == CommandReply(id=command, ok=True, message="1 replica of a is ready", actions=["a-1"])
    command = scene.warm("bad", wait=True)
    await scene.run(2)
    refused = scene.reply(command)
    assert refused is not None
    assert (refused.ok, refused.message) == (False, "the weights are not there; the order stays")
    assert [(one.model_id, one.state) for one in scene.kept] == [("a", "warm"), ("bad", "coming")]
    scene.fleet.fail_start.clear()
    await scene.run(15)
    assert scene.ready("bad") == 1


async def test_what_cannot_be_is_refused_and_a_dry_run_changes_nothing() -> None:
    scene = Warm([card("a", 60)])
    assert (await scene.answered("z")).code == "model_not_found"
    assert (await scene.answered("a", None)).code == "invalid_request"
    past = await scene.answered("a", for_s=-1)
    assert (past.code, "is over; name a time that is to come" in past.message) == ("invalid_request", True)
    dry = await scene.answered("a", 1, dry_run=True)
    assert dry.message == "1 replica of a would be kept warm until that is called off"
    await scene.run(2)
    assert scene.states() == {}
    assert scene.kept == ()


async def test_what_is_kept_warm_is_not_put_down_by_hand() -> None:
    scene = Warm([card("a", 60)])
    await scene.answered("a")
    await scene.run(2)
    command = scene.order("stop", "a")
    await scene.run(0.1)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.code == "kept_warm"
    assert "end that first: roundhouse warm a --off" in reply.message


async def test_hours_that_had_begun_when_they_came_into_the_card_are_not_met_late() -> None:
    scene = Warm([scheduled("a", {"begin": "00:00", "to": "23:59"}, ttl=5)])
    await scene.run(3)
    assert scene.ready("a") == 1
    assert scene.said("warmed") == ["1 of 1 replica of a ready, 1 s after they were to be there"]


async def test_a_schedule_brings_it_up_early_by_what_its_starts_take() -> None:
    """The first start was measured: 1 s. Two of them take 3 s at worst, and a second to be sure."""
    scene = Warm([scheduled("a", {"begin": "14:00", "to": "15:00", "replicas": 2}, max_replicas=2, ttl=5)], (100, 100))
    scene.hold("a")
    await scene.run(2)
    scene.order("stop", "a")
    await scene.run(1)
    (planned,) = scene.kept
    assert (planned.by, planned.state, planned.from_unix_s) == ("schedule", "planned", TWO_PM)
    await scene.run(TWO_PM - scene.clock() - 5, step_s=0.5)
    assert scene.states() == {}
    await scene.run(5)
    assert scene.ready("a") == 2
    assert [(one.state, one.ready) for one in scene.kept] == [("warm", 2)]
    (began,) = scene.said("warm")
    assert "its schedule keeps 2 warm, 14:00 to 15:00 UTC; brought up 4" in began or "brought up 3" in began
    assert "before they were to be there" in scene.said("warmed")[0]
    await scene.run(1800, step_s=5)
    assert scene.ready("a") == 2, "the whole time, whatever its ttl"
    await scene.run(1900, step_s=5)
    assert scene.ready("a") == 0
    (tomorrow,) = scene.kept
    assert (tomorrow.state, tomorrow.from_unix_s) == ("planned", TWO_PM + 86_400)


async def test_the_higher_of_order_and_schedule_holds_and_off_names_the_schedule() -> None:
    scene = Warm([scheduled("a", {"begin": "13:00", "to": "15:00"}, max_replicas=2)], (100, 100))
    await scene.run(2)
    assert scene.ready("a") == 1, "a controller that starts in the middle of it begins at once"
    await scene.answered("a", 2)
    await scene.run(2)
    assert scene.ready("a") == 2
    off = await scene.answered("a", 0)
    assert off.message == (
        "a is not kept warm any longer; but its schedule keeps it so, 13:00 to 15:00 UTC: change that in its card"
    )
    refused = await scene.answered("a", 0)
    assert (refused.ok, refused.code) == (False, "scheduled")
    await scene.run(1)
    assert [(one.by, one.replicas) for one in scene.kept] == [("schedule", 1)]


async def test_a_card_that_loses_its_schedule_and_a_model_that_leaves_the_catalog() -> None:
    scene = Warm([scheduled("a", {"begin": "13:00", "to": "15:00"}, ttl=1), card("b", 30)])
    await scene.answered("b")
    await scene.run(3)
    assert (scene.ready("a"), scene.ready("b")) == (1, 1)
    scene.cards = [card("a", 60, ttl=1)]
    scene.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
    await scene.run(3)
    assert scene.kept == ()
    assert scene.states() == {"a-1": "asleep"}


async def test_a_wall_clock_that_is_set_forward_and_back_loses_no_order() -> None:
    scene = Warm([card("a", 60, ttl=600)])
    ahead = {"s": 0.0}
    scene.controller._warming._wall = lambda: scene.clock() + ahead["s"]
    await scene.answered("a", for_s=600)
    await scene.run(2)
    ahead["s"] = 1800.0
    await scene.run(1)
    during = [one.model_id for one in scene.kept]
    ahead["s"] = 0.0
    await scene.run(1)
    assert (during, [one.model_id for one in scene.kept]) == ([], ["a"])
    assert scene.ready("a") == 1


def test_what_would_be_with_a_floor() -> None:
    snapshot = world({"n/0": 100}, [model("a", max_replicas=2), model("b", min_replicas=1)])
    raised = with_floor(snapshot, "a", 5)
    assert [(one.id, one.min_replicas) for one in raised.models] == [("a", 2), ("b", 1)]
    assert raised.models[0].floor_why == "2 would be kept warm"
    assert with_floor(snapshot, "b", 1) == snapshot

"""An operator's defragmentation: planned, carried out move by move, called off; nobody ever serves with less."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.control.messages import Ordered
from models.control.recording import Step, decode_line, encode_line
from models.store.records import Command, CommandReply, DefragRecord
from packers.decide import decide
from packers.types import ReplicaId, ReplicaState
from tests.models.control.scene import MIB, Scene, card

pytestmark = pytest.mark.anyio


async def scattered(sizes: dict[str, int], gpus: int = 2) -> Scene:
    """Models by turns on GPUs of 100 MiB, as far as they fit. What filled the GPUs up meanwhile is gone again."""
    groups: list[list[str]] = [[] for _ in range(gpus)]
    for number, (model, mib) in enumerate(sizes.items()):
        group = groups[number % gpus]
        if sum(sizes[each] for each in group) + mib <= 100:
            group.append(model)
    rest = {f"filler{number}": 100 - sum(sizes[each] for each in group) for number, group in enumerate(groups)}
    cards = [card(name, mib) for name, mib in (sizes | rest).items() if mib]
    scene = Scene(cards, gpus_mib=(100,) * gpus)
    fillers = [name for name, mib in rest.items() if mib]
    for group, filler in zip(groups, rest, strict=True):
        for model in [*group, *([filler] if filler in fillers and group else [])]:
            scene.hold(model)
            await scene.run(1.2)
    for filler in fillers:
        scene.order("stop", filler)
    await scene.run(0.5)
    assert list(scene.states().values()) == ["ready"] * sum(map(len, groups))
    return scene


def where(scene: Scene) -> dict[str, str]:
    found = scene.controller.world.replicas.values()
    return {tracked.model: tracked.gpu for tracked in found if tracked.state is ReplicaState.READY}


def ask(scene: Scene, verb: str = "defrag", **more: Any) -> str:
    command = Command(id=f"d{len(scene.store.replies)}-{verb}", verb=verb, **more)
    scene.controller.post(Ordered(command))
    return command.id


async def told(scene: Scene, command: str, seconds: float = 0.05) -> CommandReply:
    await scene.run(seconds)
    reply = scene.reply(command)
    assert reply is not None
    return reply


def run_of(scene: Scene) -> DefragRecord:
    assert scene.store.fleet is not None
    assert scene.store.fleet.defrag is not None
    return scene.store.fleet.defrag


async def test_a_dry_run_shows_moves_gain_and_cost_and_changes_nothing() -> None:
    scene = await scattered({"a": 40, "b": 60})
    before = where(scene)
    reply = await told(scene, ask(scene, dry_run=True), 1)
    assert reply.message.startswith("1 move: 0.48 GPU gained for ")
    (move,) = reply.detail["moves"]
    assert (move["replica_id"], move["source"], move["target"]) == ("a-1", "n/gpu-0", "n/gpu-1")
    assert (move["moved_bytes"], move["unavailable_s"]) == (40 * MIB, 0.0)
    assert move["start_s"] == pytest.approx(1.0, abs=0.05), "as measured here"
    assert [reply.detail[each]["empty_gpus"] for each in ("before", "after")] == [0, 1]
    assert reply.detail["stays"] == [{"replica_id": "b-3", "why": "no other GPU in use has 60 MiB free for it"}]
    assert (where(scene), reply.detail["run"]) == (before, None)
    assert scene.store.fleet is not None
    assert scene.store.fleet.defrag is None


async def test_a_run_starts_the_new_one_first_and_says_when_it_is_done() -> None:
    scene = await scattered({"a": 40, "b": 60})
    command = ask(scene, wait=True)
    await scene.run(0.5)
    assert scene.states() == {"a-1": "ready", "a-5": "starting", "b-3": "ready"}
    (move,) = run_of(scene).moves
    assert (move.state, move.substitute, move.target) == ("starting", "a-5", "n/gpu-1")
    assert scene.reply(command) is None
    await scene.run(5)
    assert where(scene) == {"a": "n/gpu-1", "b": "n/gpu-1"}
    reply = scene.reply(command)
    assert reply is not None
    assert (reply.ok, reply.message, reply.actions) == (True, "1 of 1 move done", ["a-1"])
    (move,) = run_of(scene).moves
    assert (move.state, run_of(scene).state) == ("done", "done")
    assert 1.0 < (move.took_s or 0) < 1.5
    texts = [each.reason for each in scene.decided("defrag")]
    assert texts[0].startswith("an operator asked for it: 1 move: 0.48 GPU gained")
    assert texts[1].startswith("it is over: 1 of 1 move done in ")
    (start,) = [each for each in scene.decided("start") if each.details.get("replaces")]
    assert (start.details["replaces"], start.details["gain_gpus"], start.key) == ("a-1", 0.48, move.decision)


async def test_without_waiting_it_is_only_begun() -> None:
    scene = await scattered({"a": 40, "b": 60})
    reply = await told(scene, ask(scene))
    assert (reply.ok, reply.message[:15]) == (True, "begun, 1 move: ")
    assert reply.detail["run"]["state"] == "running"


async def test_the_old_one_finishes_its_requests_however_long_they_take() -> None:
    scene = await scattered({"a": 40, "b": 60})
    scene.busy = {"a-1": 2}
    command = ask(scene, wait=True)
    await scene.run(20)
    assert scene.states() == {"a-1": "draining", "a-5": "ready", "b-3": "ready"}, "the drain timeout is 5 s"
    assert run_of(scene).moves[0].state == "shifting"
    assert [each.replica_id for each in scene.route("a").replicas if each.state == "ready"] == ["a-5"]
    scene.busy = {}
    await scene.run(3)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.ok
    assert where(scene)["a"] == "n/gpu-1"


async def test_where_nothing_pays_nothing_begins() -> None:
    scene = await scattered({"a": 60, "b": 60})
    reply = await told(scene, ask(scene, wait=True))
    assert (reply.ok, reply.message) == (True, "nothing that can be moved pays")
    assert len(reply.detail["stays"]) == 2
    await scene.run(1)
    assert scene.store.fleet is not None
    assert scene.store.fleet.defrag is None


async def test_so_many_moves_and_no_more_and_as_many_at_a_time_as_the_policy_says() -> None:
    sizes = dict.fromkeys("abcdef", 30)
    scene = await scattered(sizes, gpus=6)
    before = len(set(where(scene).values()))
    command = ask(scene, wait=True, moves=2)
    most = 0
    for _ in range(80):
        await scene.run(0.1)
        most = max(most, sum(state == "starting" for state in scene.states().values()))
    reply = scene.reply(command)
    assert reply is not None
    assert reply.message == "2 of 2 moves done"
    assert most == 1
    assert len(set(where(scene).values())) == before - 2
    await scene.run(5)
    assert len(run_of(scene).moves) == 2, "the run is over"


async def test_without_a_number_it_goes_on_while_it_pays() -> None:
    scene = await scattered(dict.fromkeys("abcdef", 30), gpus=6)
    command = ask(scene, wait=True)
    await scene.run(20)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.ok
    assert sorted(Counter(where(scene).values()).values()) == [3, 3]


async def test_one_at_a_time() -> None:
    scene = await scattered({"a": 40, "b": 60})
    await told(scene, ask(scene))
    second = await told(scene, ask(scene))
    assert (second.ok, second.code) == (False, "busy")
    assert "0 of 1 move done, 1 starting; roundhouse defrag --abort calls it off" in second.message
    assert (await told(scene, ask(scene, dry_run=True))).ok, "asking is always allowed"


async def test_called_off_while_the_new_one_starts_the_old_one_stays() -> None:
    scene = await scattered({"a": 40, "b": 60})
    waiting = ask(scene, wait=True)
    await scene.run(0.5)
    called_off = await told(scene, ask(scene, "defrag-abort"))
    assert called_off.ok
    assert "1 move under way" in called_off.message
    for _ in range(30):
        await scene.run(0.1)
        assert [each.replica_id for each in scene.route("a").replicas if each.state == "ready"] == ["a-1"]
    assert scene.states() == {"a-1": "ready", "b-3": "ready"}
    assert (run_of(scene).state, run_of(scene).moves[0].state) == ("aborted", "called off")
    reply = scene.reply(waiting)
    assert reply is not None
    assert (reply.ok, reply.code) == (False, "aborted")
    assert "the defragmentation was called off after 0 of 1 move done, 1 called off" in reply.message


async def test_called_off_while_the_old_one_leaves_the_move_is_finished() -> None:
    scene = await scattered({"a": 40, "b": 60})
    scene.busy = {"a-1": 1}
    ask(scene)
    await scene.run(1.5)
    assert scene.states()["a-1"] == "draining"
    await told(scene, ask(scene, "defrag-abort"))
    assert run_of(scene).state == "aborting"
    scene.busy = {}
    await scene.run(1)
    assert (run_of(scene).state, run_of(scene).moves[0].state) == ("aborted", "done")
    assert where(scene) == {"a": "n/gpu-1", "b": "n/gpu-1"}


async def test_calling_off_what_is_not_there_and_only_asking_what_that_would_do() -> None:
    scene = await scattered({"a": 40, "b": 60})
    refused = await told(scene, ask(scene, "defrag-abort"))
    assert (refused.ok, refused.code) == (False, "no_defrag")
    ask(scene)
    await scene.run(0.3)
    assert (await told(scene, ask(scene, "defrag-abort", dry_run=True))).ok
    assert run_of(scene).state == "running"


async def test_a_substitute_that_cannot_start_leaves_the_old_one_serving_and_is_not_tried_again() -> None:
    scene = await scattered({"a": 40, "b": 60})
    scene.fleet.fail_start["a"] = "the weights are not there"
    command = ask(scene, wait=True)
    await scene.run(10)
    failed, instead = run_of(scene).moves
    assert (failed.replica_id, failed.state, failed.reason) == ("a-1", "failed", "the weights are not there")
    assert (instead.replica_id, instead.state) == ("b-3", "done"), "that pays as well"
    assert where(scene) == {"a": "n/gpu-0", "b": "n/gpu-0"}
    reply = scene.reply(command)
    assert reply is not None
    assert reply.message == "1 of 1 move done, 1 failed"
    assert [call for call in scene.fleet.calls if call.startswith("start a")] == ["start a-1", "start a-5"]


async def test_a_replica_that_dies_on_the_move_is_replaced_by_its_substitute() -> None:
    scene = await scattered({"a": 40, "b": 60})
    ask(scene)
    await scene.run(0.5)
    await scene.fleet.kill(ReplicaId("a-1"))
    await scene.run(5)
    assert run_of(scene).moves[0].state == "done"
    assert where(scene) == {"a": "n/gpu-1", "b": "n/gpu-1"}


async def test_the_next_controller_goes_on_with_it() -> None:
    scene = await scattered(dict.fromkeys("abcd", 30), gpus=4)
    ask(scene, moves=2)
    await scene.run(0.5)
    assert [move.state for move in run_of(scene).moves] == ["starting"]
    await scene.restart_controller()
    await scene.run(12)
    assert [move.state for move in run_of(scene).moves] == ["done", "done"]
    assert run_of(scene).state == "done"
    assert len(set(where(scene).values())) == 2


async def test_a_number_that_makes_no_sense_is_refused() -> None:
    scene = await scattered({"a": 40, "b": 60})
    for moves in (0, -1, 1001):
        refused = await told(scene, ask(scene, moves=moves))
        assert (refused.ok, refused.code) == (False, "invalid_request")
        assert f"moves has to be 1 to 1000, got {moves}" in refused.message


async def test_what_a_run_decides_can_be_decided_again_from_its_recording() -> None:
    scene = await scattered({"a": 40, "b": 60})
    scene.fleet.fail_start["a"] = "the weights are not there"
    scene.order("record", for_s=60.0, wait=False)
    ask(scene)
    await scene.run(6)
    steps = [line for line in scene.store.lines if isinstance(line, Step)]
    moved = [each for each in steps if each.policies.defrag == "ours"]
    assert {each.policies.defrag_budget.stay for each in moved} >= {(), ("a-1",)}
    for line in steps:
        again = decode_line(encode_line(line))
        assert again == line
        assert decide(again.snapshot, again.policies) == line.plan


async def test_left_alone_nothing_moves_and_with_the_policy_it_does_without_an_operator() -> None:
    scene = await scattered({"a": 40, "b": 60})
    await scene.run(70)
    assert where(scene) == {"a": "n/gpu-0", "b": "n/gpu-1"}
    budget = replace(scene.policies.defrag_budget, settle_s=1.0)
    scene.controller._policies = replace(scene.policies, defrag="ours", defrag_budget=budget)
    await scene.run(3)
    assert where(scene) == {"a": "n/gpu-1", "b": "n/gpu-1"}
    assert scene.store.fleet is not None
    assert scene.store.fleet.defrag is None


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_never_fewer_that_serve_nor_more_moves_than_allowed(data: st.DataObject) -> None:
    """Whatever is scattered where, busy or not, failing or not, called off or not."""

    async def story() -> None:
        gpus = data.draw(st.integers(2, 5))
        names = "abcdef"[: data.draw(st.integers(2, 6))]
        scene = await scattered({name: data.draw(st.integers(10, 60)) for name in names}, gpus=gpus)
        serving = Counter(where(scene).keys())
        spread = len(set(where(scene).values()))
        if data.draw(st.booleans()):
            scene.fleet.fail_start[data.draw(st.sampled_from(names))] = "it does not want to"
        moves = data.draw(st.integers(1, 4))
        ask(scene, moves=moves)
        off_at = data.draw(st.integers(0, 60))
        for tick in range(60):
            busy = data.draw(st.sampled_from((None, *scene.states()))) if tick % 7 == 0 and scene.states() else None
            scene.busy = {busy: 1} if busy is not None and scene.states().get(busy) == "ready" else {}
            if tick == off_at:
                ask(scene, "defrag-abort")
            await scene.run(0.2)
            ready = Counter(
                route.model_id
                for route in scene.store.routes.models
                for each in route.replicas
                if each.state == "ready"
            )
            assert all(ready[model] >= number for model, number in serving.items()), scene.states()
            assert sum(state == "starting" for state in scene.states().values()) <= 1
            run = scene.store.fleet.defrag if scene.store.fleet is not None else None
            if run is not None:
                assert sum(move.state != "failed" for move in run.moves) <= moves
        scene.busy = {}
        await scene.run(3)
        assert Counter(where(scene).keys()) == serving
        assert len(set(where(scene).values())) <= spread

    anyio.run(story)

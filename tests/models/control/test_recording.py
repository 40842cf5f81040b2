"""Recordings: what is written is read back to the last bit, and decides as it did (goal M1)."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.control.recording import (
    Arrivals,
    Dropped,
    Header,
    Line,
    RecordingError,
    Step,
    decode_line,
    encode_line,
    read_lines,
)
from packers.decide import Policies, decide
from packers.sim.replay import replay
from packers.types import (
    Demand,
    Footprint,
    Gpu,
    GpuId,
    Model,
    ModelId,
    Node,
    NodeId,
    Plan,
    Replica,
    ReplicaId,
    ReplicaState,
    Resize,
    Snapshot,
    StartTimes,
    Wake,
)
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio
MIB = 1 << 20


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """GPUs with one replica each at most, and models that want something."""
    node, now_s = NodeId("n"), draw(st.floats(1e9, 2e9))
    models = tuple(
        Model(
            ModelId(name),
            Footprint(draw(st.integers(1, 120)) * MIB, draw(st.integers(0, 40)) * MIB, 0, host_bytes=MIB),
            max_replicas=draw(st.integers(1, 3)),
            ttl_s=draw(st.floats(0.1, 1e4)),
            priority=draw(st.integers(-1, 1)),
            demand=Demand(draw(st.integers(0, 40)), draw(st.integers(0, 3)), draw(st.floats(0, 100))),
            startup=StartTimes(draw(st.floats(0, 100)), draw(st.floats(0, 10))),
        )
        for name in draw(st.sets(st.sampled_from("abcd"), min_size=1))
    )
    gpus = tuple(Gpu(GpuId(f"n/{i}"), node, i, 256 * MIB) for i in range(draw(st.integers(0, 3))))
    states = st.sampled_from([ReplicaState.READY, ReplicaState.STARTING, ReplicaState.ASLEEP])
    replicas = tuple(
        Replica(
            ReplicaId(f"r-{gpu.index}"),
            model.id,
            gpu.id,
            draw(states),
            model.footprint,
            draw(st.integers(0, 2)),
            last_used_s=now_s - draw(st.floats(0, 1e5)),
            state_since_s=now_s - draw(st.floats(0, 1e5)),
        )
        for gpu in gpus
        if (model := draw(st.sampled_from((None, *models)))) is not None
    )
    return Snapshot("7", now_s, gpus, (Node(node, 512 * MIB),), replicas, models)


def back(line: Line) -> Line:
    text = encode_line(line)
    assert "\n" not in text
    return decode_line(text)


@pytest.mark.parametrize(
    "line",
    [
        Header(roundhouse="1.0", at_unix_s=1.5, simulated=True),
        Arrivals(at_s=0.1 + 0.2, model="a/b", count=3, finished=2, service_s=1 / 3),
        Dropped(lines=4),
    ],
)
def test_lines_come_back_as_they_were(line: Line) -> None:
    assert back(line) == line


@settings(max_examples=60, deadline=None)
@given(snapshots())
def test_a_step_comes_back_to_the_last_bit_and_decides_as_it_did(snapshot: Snapshot) -> None:
    policies = Policies()
    step = Step(snapshot=snapshot, policies=policies, plan=decide(snapshot, policies))
    again = back(step)
    assert again == step
    assert isinstance(again, Step)
    assert replay([(again.snapshot, again.policies, again.plan)]) == []


async def test_every_kind_of_action_and_what_json_cannot_say_come_back() -> None:
    step = (await _recorded(Scene([card("a", 60)]), _call_a))[-1]
    a = ModelId("a")
    odd = replace(step.snapshot.models[0], startup=StartTimes(math.inf, 0.1), demand=Demand(earliest_deadline_s=-1e300))
    replica = step.snapshot.replicas[0]
    actions = (
        Resize(replica.id, a, replica.gpu, 5, "grows"),
        Wake(replica.id, a, replica.gpu, "asked for", peers=(replica.gpu,)),
    )
    odd_step = Step(
        snapshot=replace(step.snapshot, models=(odd,)),
        policies=step.policies,
        plan=Plan(step.snapshot.id, actions, memories=((a, odd.scale_memory),)),
    )
    assert back(odd_step) == odd_step


async def test_m1_what_a_controller_decided_is_decided_again_from_its_recording() -> None:
    scene = Scene(
        [card("a", 60, ttl=3), card("b", 60, max_replicas=2, target_in_flight=1), card("c", 30), card("huge", 500)],
        gpus_mib=(100, 100),
        host_mib=120,
    )
    steps = await _recorded(scene, _busy_day)
    assert len(steps) > 20
    kinds = {type(action).__name__ for step in steps for action in step.plan.actions}
    assert {"Start", "Sleep", "Stop", "Wake", "Hold", "Refuse"} <= kinds, "the day must have been worth it"
    again = [back(step) for step in steps]
    assert again == steps
    assert replay([(step.snapshot, step.policies, step.plan) for step in steps]) == []


async def test_m1_a_decision_that_was_tampered_with_is_found() -> None:
    steps = await _recorded(Scene([card("a", 60)]), _call_a)
    number = next(n for n, step in enumerate(steps) if step.plan.actions)
    wrong = replace(steps[number].plan, actions=(replace(steps[number].plan.actions[0], reason="no reason"),))
    told = [(step.snapshot, step.policies, step.plan) for step in steps]
    told[number] = (steps[number].snapshot, steps[number].policies, wrong)
    (difference,) = replay(told)
    assert difference.number == number
    assert "no reason" in str(difference)


async def test_a_recording_says_what_came_and_ends_by_itself() -> None:
    scene = Scene([card("a", 60)])
    scene.order("record", for_s=3.0, wait=False)
    await scene.run(0.1)
    scene.hold("a")
    scene.hold("a")
    await scene.run(5)
    arrivals = [line for line in scene.store.lines if isinstance(line, Arrivals)]
    assert sum(line.count for line in arrivals) == 2
    assert {line.model for line in arrivals} == {"a"}
    before = len(scene.store.lines)
    scene.hold("a")
    await scene.run(5)
    assert len(scene.store.lines) == before


async def test_what_is_decided_does_not_depend_on_being_recorded_or_on_redis_taking_it() -> None:
    quiet, recorded = Scene([card("a", 60), card("b", 60)]), Scene([card("a", 60), card("b", 60)])
    recorded.order("record", for_s=1000.0, wait=False)
    for scene in (quiet, recorded):
        await _call_a(scene)
        scene.hold("b")
        await scene.run(2)
    assert quiet.states() == recorded.states()
    assert quiet.fleet.calls == recorded.fleet.calls


async def test_the_last_step_is_shown_to_whoever_asks() -> None:
    scene = Scene([card("a", 60)])
    command = scene.order("snapshot")
    await scene.run(0.1)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.ok
    (shown,) = scene.store.shown
    assert [model.id for model in shown.snapshot.models] == ["a"]


HEADER = encode_line(Header(roundhouse="1.0", at_unix_s=1.5))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "run.jsonl: is empty; a recording begins with a header"),
        (["{"], "run.jsonl, line 1: Input data was truncated"),
        (['{"kind": "wat"}'], "run.jsonl, line 1: is no line of a recording: its kind must be one of header, step"),
        ([encode_line(Dropped(lines=1))], "run.jsonl, line 1: the first line must be the header of a recording"),
        ([HEADER.replace('"format":1', '"format":9')], "run.jsonl, line 1: format 9 is unknown"),
        ([HEADER, "", '{"kind":"arrivals","at_s":1,"model":"a"}'], "line 3: Object missing required field `count`"),
        ([HEADER, '{"kind":"step"}'], "run.jsonl, line 2: KeyError: 'snapshot'"),
    ],
)
def test_what_is_no_recording_is_refused_with_file_line_and_field(lines: list[str], said: str) -> None:
    with pytest.raises(RecordingError) as caught:
        list(read_lines(lines, "run.jsonl"))
    assert said in str(caught.value)


async def test_a_step_with_a_wrong_field_names_it() -> None:
    step = (await _recorded(Scene([card("a", 60)]), _call_a))[0]
    fields = json.loads(encode_line(step))
    fields["snapshot"]["gpus"][0]["memory_bytes"] = "plenty"
    with pytest.raises(RecordingError, match=r"memory_bytes|gpus\[0\]"):
        decode_line(json.dumps(fields))


async def _call_a(scene: Scene) -> None:
    scene.hold("a")
    await scene.run(2)


async def _busy_day(scene: Scene) -> None:
    for model in ("a", "b", "c", "huge", "a", "b"):
        scene.hold(model)
        await scene.run(2, step_s=0.05)
    ready = [replica for replica, state in scene.states().items() if state == "ready"]
    scene.busy = {ready[0]: 3}
    for model in ("a", "b", "c"):
        scene.hold(model)
    await scene.run(3, step_s=0.05)
    scene.busy = {}
    await scene.run(40, step_s=0.25)
    scene.hold("a")
    await scene.run(2, step_s=0.05)


async def _recorded(scene: Scene, day: Callable[[Scene], Awaitable[None]]) -> list[Step]:
    scene.order("record", for_s=3600.0, wait=False)
    await scene.run(0.05)
    await day(scene)
    await scene.run(0.05)
    return [line for line in scene.store.lines if isinstance(line, Step)]

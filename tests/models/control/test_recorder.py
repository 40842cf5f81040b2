"""Which steps are worth a line, and what happens when too many come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models.control.demand import Traffic
from models.control.recorder import LONGEST_S, UNCHANGED_EVERY_S, WAITING_MAX, Recorder
from models.control.recording import Arrivals, Dropped, Step
from packers.decide import Policies, decide
from packers.types import Demand, Footprint, Gpu, GpuId, Hold, Model, ModelId, Node, NodeId, Plan, Snapshot

A = ModelId("a")
POLICIES = Policies()


def world(now_s: float = 100.0, **demand: Any) -> Snapshot:
    return Snapshot(
        id=str(now_s),
        now_s=now_s,
        gpus=(Gpu(GpuId("n/0"), NodeId("n"), 0, 100),),
        nodes=(Node(NodeId("n"), 100),),
        replicas=(),
        models=(Model(A, Footprint(60, 0, 0), demand=Demand(**demand)),),
    )


def step(recorder: Recorder, snapshot: Snapshot) -> None:
    recorder.step(Step(snapshot=snapshot, policies=POLICIES, plan=decide(snapshot, POLICIES)))


def test_nothing_is_recorded_unless_somebody_wants_it_and_only_for_so_long() -> None:
    recorder = Recorder()
    assert not recorder.on(0.0)
    recorder.want(now=100.0, for_s=30.0)
    assert recorder.on(129.9)
    assert not recorder.on(130.0)
    recorder.want(now=110.0, for_s=5.0)
    assert recorder.on(129.9), "somebody else wants it for longer"
    recorder.want(now=110.0, for_s=1e9)
    assert not recorder.on(110.0 + LONGEST_S)
    recorder.want(now=111.0, for_s=0.0)
    assert not recorder.on(111.0)


def test_time_alone_makes_no_line_for_a_while() -> None:
    recorder = Recorder()
    for tenth in range(int(UNCHANGED_EVERY_S * 10)):
        step(recorder, world(100.0 + tenth / 10))
    assert len(recorder.take()) == 1
    step(recorder, world(100.0 + UNCHANGED_EVERY_S))
    assert len(recorder.take()) == 1


def test_whatever_the_decision_could_hang_on_makes_a_line() -> None:
    recorder = Recorder()
    calm = world()
    step(recorder, calm)
    changes = [
        world(held=1),
        world(in_flight=1),
        world(operator_wake=True),
        replace(calm, gpus=(replace(calm.gpus[0], cordoned=True),)),
        replace(calm, models=(replace(calm.models[0], priority=1),)),
        replace(calm, models=()),
    ]
    for change in changes:
        step(recorder, change)
        step(recorder, calm)
    assert len(recorder.take()) == 1 + 2 * len(changes)


def test_a_plan_with_news_makes_a_line_the_same_hold_again_does_not() -> None:
    recorder, snapshot = Recorder(), world()
    for reason in ("first", "first", "second"):
        plan = Plan(snapshot.id, (Hold(A, reason),))
        recorder.step(Step(snapshot=snapshot, policies=POLICIES, plan=plan))
    assert len(recorder.take()) == 2


def test_a_new_recording_begins_with_a_whole_step() -> None:
    recorder = Recorder()
    recorder.want(100.0, 10.0)
    step(recorder, world(100.0))
    recorder.take()
    recorder.want(111.0, 10.0)
    step(recorder, world(105.0))
    assert len(recorder.take()) == 1


def test_arrivals_come_with_the_mean_service_time_of_what_was_finished() -> None:
    recorder = Recorder()
    recorder.traffic({A: Traffic(arrived=2, finished=4, busy_s=6.0), ModelId("b"): Traffic(arrived=1)}, 7.0)
    assert recorder.take() == (
        Arrivals(at_s=7.0, model="a", count=2, finished=4, service_s=1.5),
        Arrivals(at_s=7.0, model="b", count=1),
    )
    assert recorder.take() == ()


def test_what_does_not_get_away_is_dropped_and_counted_not_kept_for_ever() -> None:
    recorder = Recorder()
    for second in range(WAITING_MAX + 5):
        recorder.traffic({A: Traffic(arrived=1)}, float(second))
    lines = recorder.take()
    assert len(lines) == WAITING_MAX + 1
    assert lines[-1] == Dropped(lines=5)
    assert all(isinstance(line, Arrivals | Step) for line in lines[:-1])
    recorder.lost(lines)
    assert recorder.take() == (), "said with the next line, not again and again"
    recorder.traffic({A: Traffic(arrived=1)}, 0.0)
    assert recorder.take()[-1] == Dropped(lines=WAITING_MAX + 5)

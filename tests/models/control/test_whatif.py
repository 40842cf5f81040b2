"""What would become of a model if it were called now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.control.recording import Step
from models.control.whatif import UnknownName, if_called, plan_of, with_call, with_drain
from packers.decide import Policies, decide
from packers.types import (
    DEFAULT_START,
    Demand,
    Footprint,
    Gpu,
    GpuId,
    Model,
    ModelId,
    Node,
    NodeId,
    Replica,
    ReplicaId,
    ReplicaState,
    Snapshot,
    StartTimes,
)

A, B, C = ModelId("a"), ModelId("b"), ModelId("c")
NODE = NodeId("n")
NOW_S = 1000.0


def model(name: ModelId, size: int = 60, **more: object) -> Model:
    footprint = Footprint(size, 0, 0, host_bytes=size)
    return Model(name, footprint, startup=StartTimes(disk_s=8.0, host_s=2.1), **more)  # type: ignore[arg-type]


def replica(name: ModelId, gpu: int, state: ReplicaState = ReplicaState.READY, **more: object) -> Replica:
    footprint = Footprint(60, 0, 0, host_bytes=60)
    return Replica(
        ReplicaId(f"{name}-1"),
        name,
        GpuId(f"n/{gpu}"),
        state,
        footprint,
        last_used_s=NOW_S - 100,
        **more,  # type: ignore[arg-type]
    )


def step(models: list[Model], replicas: list[Replica], gpus: int = 1, host: int = 1000) -> Step:
    snapshot = Snapshot(
        "1",
        NOW_S,
        tuple(Gpu(GpuId(f"n/{i}"), NODE, i, 100) for i in range(gpus)),
        (Node(NODE, host),),
        tuple(replicas),
        tuple(models),
    )
    return Step(snapshot=snapshot, policies=Policies(), plan=decide(snapshot))


def test_one_that_serves_is_served_at_once() -> None:
    answer = if_called(step([model(A)], [replica(A, 0)]), A)
    assert (answer.outcome, answer.wait_s, answer.gpu) == ("serves", 0.0, "n/0")


def test_one_that_is_starting_comes_by_itself() -> None:
    answer = if_called(step([model(A)], [replica(A, 0, ReplicaState.STARTING)]), A)
    assert answer.outcome == "comes"


def test_one_that_is_not_there_starts_where_there_is_room_and_its_candidates_are_told() -> None:
    answer = if_called(step([model(A), model(B)], [replica(B, 0)], gpus=2), A)
    assert (answer.outcome, answer.gpu, answer.wait_s) == ("start", "n/1", 8.0)
    assert "8.0 s" in answer.summary
    assert "n/1" in {candidate.gpu for candidate in answer.candidates}
    assert answer.leaving == ()


def test_one_that_sleeps_wakes() -> None:
    answer = if_called(step([model(A)], [replica(A, 0, ReplicaState.ASLEEP)]), A)
    assert (answer.outcome, answer.gpu, answer.wait_s) == ("wake", "n/0", 2.1)


def test_one_for_which_another_has_to_go_says_who_and_what_it_costs_to_bring_that_back() -> None:
    answer = if_called(step([model(A), model(B)], [replica(B, 0)]), A)
    assert (answer.outcome, answer.gpu) == ("evict", "n/0")
    (leaving,) = answer.leaving
    assert (leaving.model, leaving.sleeps, leaving.back_s) == (B, True, 2.1)
    assert answer.summary == "would start on n/0 in 8.0 s once b sleeps (2.1 s to wake it)"


def test_without_host_memory_the_other_has_to_start_again() -> None:
    answer = if_called(step([model(A), model(B)], [replica(B, 0)], host=0), A)
    assert "b stops (8.0 s to start it again)" in answer.summary


def test_a_hold_says_what_would_end_it() -> None:
    busy = model(B, demand=Demand(in_flight=1))
    answer = if_called(step([model(A), busy], [replica(B, 0, in_flight=1)]), A)
    assert answer.outcome == "hold"
    assert answer.wait_s is None
    assert answer.counterfactuals == ("fits on n/0 if b (busy) sleeps: 2.1 s to wake it again",)


def test_every_gpu_has_its_counterfactual() -> None:
    models = [model(A), model(B, demand=Demand(in_flight=1)), model(C, pinned=True)]
    answer = if_called(step(models, [replica(B, 0, in_flight=1), replica(C, 1, pinned=True)], gpus=2), A)
    assert sorted(answer.counterfactuals) == [
        "fits on n/0 if b (busy) sleeps: 2.1 s to wake it again",
        "fits on n/1 if c (pinned) sleeps: 2.1 s to wake it again",
    ]


def test_one_that_is_too_large_is_refused_and_told_what_would_be_enough() -> None:
    answer = if_called(step([model(A, size=101)], []), A)
    assert answer.outcome == "refuse"
    assert answer.counterfactuals == ("fits on a GPU with 101 bytes; the largest that it may go to has 100 bytes",)


def test_asking_changes_nothing() -> None:
    asked = step([model(A), model(B)], [replica(B, 0)])
    before = asked.snapshot
    if_called(asked, A)
    assert asked.snapshot == before
    assert plan_of(asked, asked.snapshot) is asked.plan


def test_what_if_it_were_called_is_what_is_decided_when_it_is() -> None:
    asked = step([model(A), model(B)], [replica(B, 0)])
    plan = plan_of(asked, with_call(asked.snapshot, "a"))
    assert [type(action).__name__ for action in plan.actions] == ["Sleep", "Hold"]


def test_what_if_a_gpu_were_drained() -> None:
    asked = step([model(A)], [replica(A, 0)], gpus=2)
    drained = with_drain(asked.snapshot, "n/0")
    assert [gpu.cordoned for gpu in drained.gpus] == [True, False]
    assert plan_of(asked, drained).actions, "what is there has to leave"


def test_names_that_are_not_there() -> None:
    asked = step([model(A)], [])
    with pytest.raises(UnknownName, match="'z'"):
        with_call(asked.snapshot, "z")
    with pytest.raises(UnknownName, match="these are there: n/0"):
        with_drain(asked.snapshot, "n/9")


def test_times_that_are_only_assumed_go_by_what_other_models_took() -> None:
    asked = step([replace(model(A), startup=DEFAULT_START), model(B)], [replica(B, 0)], gpus=2)
    answer = if_called(asked, A)
    assert (answer.wait_s, answer.summary) == (8.0, "would start on n/1 in 8.0 s"), "as b did, which is as large"
    assert next(each for each in asked.snapshot.models if each.id == A).startup == DEFAULT_START
    alone = if_called(step([replace(model(A), startup=DEFAULT_START)], []), A)
    assert alone.summary == "would start on n/0 in 10.0 s (assumed: none was measured yet)"

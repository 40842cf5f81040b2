"""What an autoscaler wishes for, and what callers need: a wish never comes before a need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from packers.autoscale.context import Scale, ScaleContext
from packers.autoscale.registry import AUTOSCALING
from packers.decide import Policies
from packers.decide import decide as decide_by
from packers.types import Hold, Model, Plan, Sleep, Snapshot, Start
from tests.packers.worlds import model, replica, world


@pytest.fixture(autouse=True)
def wishful() -> Iterator[None]:
    """As many as the model may have, always."""

    def policy(context: ScaleContext) -> Scale:
        return Scale(context.model.max_replicas, "it may be called", context.memory, linger_s=0.0)

    AUTOSCALING["wishful"] = policy
    yield
    del AUTOSCALING["wishful"]


def decide(there: Snapshot) -> Plan:
    return decide_by(there, Policies(scaling="wishful"))


def known(of: Model) -> Model:
    """It was called at some time."""
    return replace(of, load=replace(of.load, arrivals=1))


def said(plan: Plan) -> list[str]:
    return [f"{type(action).__name__.lower()} {action.model}" for action in plan.actions]


def test_one_that_is_only_wished_for_makes_room_for_a_waiting_first_one() -> None:
    there = world({"n/0": 100}, [model("a", 60), model("b", 60, held=1)], [replica("a", "n/0", 60, idle_s=1)])
    plan = decide(there)
    assert said(plan) == ["sleep a", "hold b"]


@pytest.mark.parametrize("priority", [0, 5])
def test_it_does_not_take_the_room_back_before_the_waiting_one_has_it(priority: int) -> None:
    """a has gone for b: what is free now is b's, however important a is."""
    models = [known(model("a", 60, priority=priority)), model("b", 60, held=1)]
    plan = decide(world({"n/0": 100}, models, []))
    assert said(plan) == ["start b", "hold a"]


def test_of_two_replicas_one_of_which_serves_the_other_goes() -> None:
    models = [model("a", 60, in_flight=1, max_replicas=2), model("b", 60, held=1)]
    both = [replica("a-1", "n/0", 60, busy=1), replica("a-2", "n/1", 60, idle_s=1)]
    plan = decide(world({"n/0": 60, "n/1": 60}, models, both))
    evicted = [action for action in plan.actions if isinstance(action, Sleep)]
    assert [action.replica for action in evicted] == ["a-2"]


def test_more_that_callers_need_come_before_what_is_wished_for() -> None:
    models = [known(model("a", 60)), model("b", 60, held=2, in_flight=1, max_replicas=2, target_in_flight=1)]
    busy = [replica("b-1", "n/0", 60, busy=1)]
    plan = decide(world({"n/0": 60, "n/1": 60}, models, busy))
    assert [action.model for action in plan.actions if isinstance(action, Start)] == ["b"]
    idle = [*busy, replica("a-1", "n/1", 60, idle_s=1)]
    assert said(decide(world({"n/0": 60, "n/1": 60}, models, idle)))[0] == "sleep a"


def test_a_wish_evicts_nobody_who_is_wished_for_as_well() -> None:
    models = [model("a", 60), known(model("b", 60))]
    plan = decide(world({"n/0": 100}, models, [replica("a", "n/0", 60)]))
    (held,) = plan.actions
    assert isinstance(held, Hold)
    assert "a (kept for what may come)" in held.reason


def test_min_replicas_are_no_wish() -> None:
    models = [model("a", 60, min_replicas=1), model("b", 60, held=1)]
    there = world({"n/0": 100}, models, [replica("a", "n/0", 60)])
    (held,) = decide(there).actions
    assert isinstance(held, Hold)
    assert "a (kept by min_replicas)" in held.reason
    empty = [replace(models[0], priority=1), models[1]]
    assert said(decide(world({"n/0": 100}, empty, []))) == ["start a", "hold b"]

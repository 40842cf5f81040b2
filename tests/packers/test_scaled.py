"""An autoscaling policy is asked about what has changed, and about the rest now and then."""

from __future__ import annotations

from dataclasses import replace

from packers.autoscale.context import Scale, ScaleContext
from packers.scaled import TICK_S, Answers, Scaled, scaled
from packers.state import State
from packers.types import Demand, ModelId, Pool, PoolId, PoolKind
from tests.packers.worlds import ASLEEP, NOW_S, model, replica, world

A, B = ModelId("a"), ModelId("b")


class Asked:
    """Wants one replica of everything, and notes what it was told."""

    def __init__(self) -> None:
        self.seen: list[ScaleContext] = []

    def __call__(self, context: ScaleContext) -> Scale:
        self.seen.append(context)
        return Scale(1, "one is wanted", replace(context.memory, count=1), linger_s=0.0)

    def names(self) -> list[str]:
        found = [str(context.model.id) for context in self.seen]
        self.seen.clear()
        return found


class Story:
    def __init__(self) -> None:
        residents = [replica("a", "n/0", 20), replica("b", "n/0", 20, ASLEEP)]
        self.state = State.of(world({"n/0": 100}, [model("a", 20), model("b", 20), model("unused", 20)], residents))
        self.policy, self.answers = Asked(), Answers()

    def at(self, now_s: float) -> Scaled:
        self.state.settle()
        found = scaled(self.state, now_s, self.policy, self.answers)
        afresh = scaled(State.of(self.state.snapshot("s", now_s)), now_s, Asked(), Answers())
        assert found == afresh, "what was kept is what would be answered anew"
        return found


def test_those_in_use_are_asked_about_once() -> None:
    story = Story()
    found = story.at(NOW_S)
    assert story.policy.names() == ["a", "b"]
    assert story.at(NOW_S) == found
    assert story.policy.names() == []
    assert found.wanting == ["b"], "it is asleep, and one is wanted"
    assert [name for name, _ in found.memories] == ["a", "b"]


def test_a_change_and_a_tick_of_its_own_make_a_model_be_asked_about_again() -> None:
    story = Story()
    story.at(NOW_S)
    story.policy.names()
    story.state.set_demand(A, Demand(held=1))
    story.at(NOW_S)
    assert story.policy.names() == ["a"]
    for step in range(1, 11):
        story.at(NOW_S + step * TICK_S / 10)
    assert sorted(story.policy.names()) == ["a", "b"]


def test_it_is_told_a_time_that_has_passed_and_that_of_its_load_if_that_is_newer() -> None:
    story = Story()
    loaded = replace(story.state.models[A], load=replace(story.state.models[A].load, at_s=NOW_S, arrivals=3))
    story.state.put_model(loaded)
    story.at(NOW_S)
    first, second = story.policy.seen
    assert first.now_s == NOW_S
    assert NOW_S - TICK_S < second.now_s <= NOW_S


def test_a_memory_that_was_put_back_is_not_told_again() -> None:
    story = Story()
    for name, memory in story.at(NOW_S).memories:
        story.state.set_memory(name, memory)
    assert story.at(NOW_S).memories == []


def test_keeping_costs_nothing_on_what_is_owned_while_nobody_else_wants_it() -> None:
    story = Story()
    story.at(NOW_S)
    assert [context.keep_price for context in story.policy.seen] == [0.0, 0.0]
    story.policy.names()
    story.state.set_demand(B, Demand(held=1))
    story.at(NOW_S)
    assert {context.keep_price for context in story.policy.seen} == {1.0}


def test_keeping_costs_what_rented_gpus_cost() -> None:
    story = Story()
    gpu = replace(next(iter(story.state.gpus.values())), pool=PoolId("burst"))
    story.state.put_gpu(gpu)
    story.state.put_pool(Pool(PoolId("burst"), PoolKind.BURST, 3.0))
    story.at(NOW_S)
    assert {context.keep_price for context in story.policy.seen} == {1.0}

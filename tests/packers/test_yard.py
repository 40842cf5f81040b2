"""Plans carried out over virtual time: everybody who can be served is, and nothing goes round in circles."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from packers.decide import Policies
from packers.eviction import EVICTION
from packers.placement import PLACEMENT
from packers.types import Gpu, Model, ModelId, ReplicaState, Sleep, Start, Stop, Wake
from tests.packers.worlds import gpus, model, nodes
from tests.packers.yard import START_S, Yard


def yard(mib_of: dict[str, int], *models: Model, host: int = 1000) -> Yard:
    there = gpus(mib_of)
    return Yard(there, nodes(there, host), models)


def done(of: Yard) -> list[str]:
    return [f"{type(action).__name__.lower()} {action.model}" for action in of.done]


def test_a_first_request_waits_for_the_start_and_the_second_does_not() -> None:
    there = yard({"n/0": 100}, model("a"))
    first, second = there.request(ModelId("a"), 0, 0.5), there.request(ModelId("a"), 3, 0.5)
    there.run(10)
    assert (first.served_s, second.served_s) == (START_S + 0.5, 3.5)
    assert done(there) == ["start a"]


def test_thirty_requests_at_once_cause_one_start() -> None:
    there = yard({"n/0": 100}, model("a"))
    asked = [there.request(ModelId("a"), 0, 0.5) for _ in range(30)]
    there.run(10)
    assert all(one.served_s == START_S + 0.5 for one in asked)
    assert done(there) == ["start a"]


def test_three_models_take_turns_on_a_gpu_with_room_for_one() -> None:
    there = yard({"n/0": 100}, model("a"), model("b"), model("c"))
    asked = [there.request(ModelId(name), 5.0 * turn, 0.5) for turn, name in enumerate("abcabc")]
    there.run(60)
    assert [one.served_s is not None for one in asked] == [True] * 6
    assert done(there) == [
        "start a",
        *("sleep a", "start b"),
        *("sleep b", "start c"),
        *("sleep c", "wake a"),
        *("sleep a", "wake b"),
        *("sleep b", "wake c"),
    ]


def test_all_at_once_on_a_gpu_with_room_for_one_are_served_one_after_another() -> None:
    there = yard({"n/0": 100}, model("a"), model("b"), model("c"))
    asked = [there.request(ModelId(name), 0.01 * turn, 2) for turn, name in enumerate("cab")]
    there.run(30)
    served = [one.served_s for one in asked]
    assert None not in served
    assert served == sorted(one for one in served if one is not None), "who waited longest came first"
    assert Counter(done(there)) == {"start a": 1, "start b": 1, "start c": 1, "sleep c": 1, "sleep a": 1}


def test_an_unused_model_sleeps_and_is_forgotten_in_the_end() -> None:
    there = yard({"n/0": 100}, model("a", ttl_s=10))
    there.request(ModelId("a"), 0, 1)
    there.run(200)
    assert done(there) == ["start a", "sleep a", "stop a"]
    assert there.replicas == {}
    assert there.ledger.entries() == ()


def test_load_grows_a_model_and_quiet_shrinks_it() -> None:
    there = yard({"n/0": 100, "n/1": 100}, model("a", max_replicas=2, min_replicas=1, target_in_flight=4, ttl_s=10))
    for place in range(8):
        there.request(ModelId("a"), 5 + 0.01 * place, 3)
    there.run(7)
    assert sum(one.state is ReplicaState.READY for one in there.replicas.values()) == 2
    there.run(50)
    assert sorted(one.state for one in there.replicas.values()) == [ReplicaState.ASLEEP, ReplicaState.READY]
    there.run(200)
    assert [one.state for one in there.replicas.values()] == [ReplicaState.READY]


def test_a_model_that_fails_to_start_leaves_the_memory_to_others_between_attempts() -> None:
    there = yard({"n/0": 100}, model("bad", priority=5), model("good"))
    there.fail.add(ModelId("bad"))
    there.request(ModelId("bad"), 0, 1)
    good = there.request(ModelId("good"), 0.5, 1)
    there.run(20)
    assert good.served_s == START_S + START_S + 1
    assert Counter(done(there))["start bad"] <= 4


def test_waking_is_quicker_than_starting_and_used() -> None:
    there = yard({"n/0": 100}, model("a", ttl_s=5))
    there.request(ModelId("a"), 0, 1)
    again = there.request(ModelId("a"), 20, 1)
    there.run(30)
    assert done(there)[:3] == ["start a", "sleep a", "wake a"]
    assert again.served_s == 21.2


NAMES = [f"m{place}" for place in range(6)]


@dataclass(frozen=True)
class Story:
    """Everything that comes from outside; ``tell`` makes the yard in which it happens."""

    gpus: tuple[Gpu, ...]
    host_mib: int
    models: tuple[Model, ...]
    policies: Policies
    requests: tuple[tuple[ModelId, float, float], ...]  # model, when, for how long

    def tell(self, turned: bool = False) -> Yard:
        """``turned``: GPUs and models are listed the other way round."""
        step = -1 if turned else 1
        there = Yard(self.gpus[::step], nodes(self.gpus, self.host_mib), self.models[::step], self.policies)
        for of, at_s, duration_s in self.requests:
            there.request(of, at_s, duration_s)
        return there


@st.composite
def some_model(draw: st.DrawFn, name: str, rough: bool) -> Model:
    mib = draw(st.integers(10, 120))
    return model(
        name,
        mib,
        residue=draw(st.sampled_from([0, 0, 5, mib // 3])),
        host=draw(st.integers(0, mib)),
        min_replicas=draw(st.integers(0, 2)) if rough else 0,
        max_replicas=draw(st.integers(1, 3)),
        ttl_s=draw(st.sampled_from([0.0, 3.0, 30.0])),
        priority=draw(st.integers(0, 2)),
        pinned=rough and draw(st.integers(0, 4)) == 0,
        can_sleep=draw(st.booleans()),
        target_in_flight=draw(st.integers(1, 4)),
    )


@st.composite
def stories(draw: st.DrawFn, rough: bool) -> Story:
    """``rough``: with pinning and min_replicas, which may rightly starve others."""
    sizes = draw(st.lists(st.sampled_from([60, 100, 200]), min_size=1, max_size=3))
    models = tuple(draw(some_model(name, rough)) for name in NAMES[: draw(st.integers(1, 6))])
    asked = st.tuples(st.sampled_from([of.id for of in models]), st.integers(0, 200), st.integers(1, 30))
    return Story(
        gpus({f"{'no'[place % 2]}/{place}": mib for place, mib in enumerate(sizes)}),
        draw(st.sampled_from([0, 60, 150, 1000])),
        models,
        Policies(draw(st.sampled_from(sorted(PLACEMENT))), draw(st.sampled_from(sorted(EVICTION)))),
        tuple((of, at / 10, duration / 10) for of, at, duration in draw(st.lists(asked, max_size=25))),
    )


@settings(max_examples=150, deadline=None)
@given(stories(rough=True))
def test_no_plan_breaks_a_rule_whatever_comes(story: Story) -> None:
    """The yard itself checks: applicable in order, books balance, no pinned or busy one sent away, no endless loop."""
    there = story.tell()
    there.run(60)
    for name in {action.model for action in there.done if isinstance(action, Start)}:
        of = there.models[name]
        assert of.footprint.gpu_bytes <= max(gpu.memory_bytes for gpu in there.gpus)
        mine = [one for one in there.replicas.values() if one.model == name]
        serving = [one for one in mine if one.state in (ReplicaState.READY, ReplicaState.STARTING)]
        assert len(serving) <= max(of.max_replicas, of.min_replicas)


@settings(max_examples=150, deadline=None)
@given(stories(rough=False))
def test_everybody_who_fits_is_served_in_the_end_and_then_all_is_quiet(story: Story) -> None:
    there = story.tell()
    there.run(200)
    largest_bytes = max(gpu.memory_bytes for gpu in there.gpus)
    for request in there.requests:
        fits = there.models[request.model].footprint.gpu_bytes <= largest_bytes
        assert (request.served_s is not None, request.refused) == (fits, not fits)
    assert there.holds == {}
    moves = sum(isinstance(action, Start | Wake) for action in there.done)
    if all(of.max_replicas == 1 for of in there.models.values()):
        assert moves <= len(there.requests), "something was started that served nobody"
    there.run(600)
    assert sum(isinstance(action, Start | Wake) for action in there.done) == moves, "nobody asked for anything"
    assert there.ledger.entries() == (), "all ttls are over"
    assert sum(isinstance(action, Sleep | Stop) for action in there.done) <= 2 * moves


@settings(max_examples=60, deadline=None)
@given(stories(rough=True))
def test_the_same_story_goes_the_same_way_in_whatever_order_things_are_listed(story: Story) -> None:
    once, again, turned = story.tell(), story.tell(), story.tell(turned=True)
    for there in (once, again, turned):
        there.run(40)
    assert once.done == again.done == turned.done
    assert [one.served_s for one in once.requests] == [one.served_s for one in turned.requests]

"""What would have to be otherwise: who would go, why it does not go by itself, and that it would be enough."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from packers.counterfactual import Alternative, alternatives, never
from packers.state import State
from packers.types import GpuId, Guarantee, Model, ModelId, Replica, ReplicaState, Snapshot, Start, StartTimes, Wake
from tests.packers.worlds import ASLEEP, DRAINING, MIB, STARTING, decide, model, replica, world

A = ModelId("a")
STATES = (ReplicaState.READY, ReplicaState.READY, STARTING, ASLEEP, DRAINING)


def timed(of: Model, disk_s: float, host_s: float) -> Model:
    return replace(of, startup=StartTimes(disk_s, host_s))


def texts(of: Snapshot, **more: object) -> list[str]:
    return [one.text for one in alternatives(State.of(of), A, **more)]  # type: ignore[arg-type]


def test_the_one_in_the_way_sleeps_and_the_price_is_its_wake() -> None:
    there = world({"n/0": 100}, [model("a", held=1), timed(model("b"), 8.0, 2.1)], [replica("b", "n/0")])
    assert texts(there) == ["fits on n/0 if b sleeps: 2.1 s to wake it again"]


def test_without_host_memory_it_stops_and_the_price_is_a_start() -> None:
    there = world({"n/0": 100}, [model("a", held=1), timed(model("b"), 8.0, 2.1)], [replica("b", "n/0")], host=10)
    assert texts(there) == ["fits on n/0 if b stops: 8 s to start it again"]


def test_what_keeps_somebody_is_said_and_who_is_kept_by_nothing_comes_first() -> None:
    there = world(
        {"n/0": 100, "n/1": 100, "n/2": 100, "n/3": 100, "n/4": 100},
        [model("a", held=1), model("b"), model("c", pinned=True), model("d", min_replicas=1), model("e"), model("f")],
        [
            replica("b", "n/0", busy=2),
            replica("c", "n/1", pinned=True),
            replica("d", "n/2"),
            replica("e", "n/3", state=STARTING),
            replica("f", "n/4"),
        ],
    )
    assert texts(there, most=9) == [
        "fits on n/4 if f sleeps: 1 s to wake it again",
        "fits on n/0 if b (busy) sleeps: 1 s to wake it again",
        "fits on n/1 if c (pinned) sleeps: 1 s to wake it again",
        "fits on n/2 if d (kept by min_replicas) sleeps: 1 s to wake it again",
        "fits on n/3 if e (starting) sleeps: 1 s to wake it again",
    ]
    assert len(texts(there)) == 3
    assert texts(there, without=(GpuId("n/4"),))[0].startswith("fits on n/0")


def test_one_that_suffices_goes_rather_than_two_and_none_goes_in_vain() -> None:
    small, large = replica("b", "n/0", 20), replica("c", "n/0", 50)
    there = world({"n/0": 100}, [model("a", 60, held=1), model("b", 20), model("c", 50)], [small, large])
    assert texts(there) == ["fits on n/0 if c sleeps: 1 s to wake it again"]
    more = world({"n/0": 100}, [model("a", 80, held=1), model("b", 20), model("c", 50)], [small, large])
    assert texts(more) == ["fits on n/0 if c sleeps: 1 s to wake it again"], "30 are free already"
    both = world({"n/0": 100}, [model("a", 90, held=1), model("b", 20), model("c", 50)], [small, large])
    assert texts(both) == ["fits on n/0 if c sleeps and b sleeps: 2 s to bring them back"]


def test_where_something_leaves_already_nobody_else_has_to() -> None:
    leaving = replica("b", "n/0", state=DRAINING, to=ReplicaState.DEAD)
    there = world({"n/0": 100}, [model("a", held=1), model("b")], [leaving])
    assert texts(there) == ["fits on n/0 once what leaves it is gone"]


def test_what_sleeps_there_leaves_its_residue_behind_or_ends() -> None:
    sleeper = replica("b", "n/0", 60, ASLEEP, residue=50)
    there = world({"n/0": 100}, [model("a", held=1), model("b", residue=50)], [sleeper])
    assert texts(there) == ["fits on n/0 if b stops: 10 s to start it again"]


def test_gpus_to_which_it_may_not_go_do_not_count() -> None:
    there = world({"n/0": 100, "n/1": 50}, [model("a", held=1), model("b")], [replica("b", "n/0")])
    cordoned = replace(there, gpus=tuple(replace(gpu, cordoned=gpu.id == "n/0") for gpu in there.gpus))
    assert texts(there) == ["fits on n/0 if b sleeps: 1 s to wake it again"]
    assert texts(cordoned) == []


def test_what_is_guaranteed_to_others_helps_nobody() -> None:
    models = [model("a", held=1), replace(model("b", 50), groups=("team",))]
    there = world({"n/0": 100}, models, [replica("b", "n/0", 50)])
    assert texts(there) == ["fits on n/0 if b sleeps: 1 s to wake it again"]
    kept = replace(there, guarantees=(Guarantee("team", GpuId("n/0"), 40 * MIB),))
    assert texts(kept) == ["fits on n/0 if b sleeps: 1 s to wake it again"], "60 of 100 are nobody's"
    more = replace(there, guarantees=(Guarantee("team", GpuId("n/0"), 45 * MIB),))
    assert texts(more) == []
    mine = replace(more, models=(replace(models[0], groups=("team",)), models[1]))
    assert texts(mine) == ["fits on n/0 if b sleeps: 1 s to wake it again"]


def test_one_that_no_gpu_could_hold_is_told_what_would() -> None:
    there = world({"n/0": 100, "n/1": 60}, [model("a", 200, held=1)])
    state = State.of(there)
    assert alternatives(state, A) == ()
    wants = "fits on a GPU with 200 MiB; the largest that it may go to has 100 MiB"
    assert never(state.models[A], state) == wants
    roomier = State.of(world({"n/0": 160}, [model("a", 200, held=1)]))
    assert never(roomier.models[A], roomier).endswith(", on which its KV cache may be 10 MiB at most")
    typed = State.of(replace(there, models=(replace(there.models[0], gpu_types=("H100",)),)))
    assert "not of type H100" in never(typed.models[A], typed)


def test_unknown_models_and_groups_have_none() -> None:
    there = world({"n/0": 100}, [replace(model("a", held=1), tensor_parallel=2)])
    assert alternatives(State.of(there), A) == ()
    assert alternatives(State.of(there), ModelId("z")) == ()


@st.composite
def crowds(draw: st.DrawFn) -> Snapshot:
    """One to three GPUs with whatever fits on them; a is called and nowhere."""
    names = iter("bcdefghijklm")
    models, there, mib_of = [model("a", draw(st.integers(10, 90)), held=1)], [], {}
    for index in range(draw(st.integers(1, 3))):
        gpu, left = f"n/{index}", 100
        mib_of[gpu] = left
        for mib in draw(st.lists(st.integers(10, 60), max_size=4)):
            if mib <= left:
                left -= mib
                name = next(names)
                state = draw(st.sampled_from(STATES))
                busy = draw(st.integers(0, 1)) if state is ReplicaState.READY else 0
                pinned = draw(st.integers(0, 4)) == 0
                models.append(model(name, mib, pinned=pinned, can_sleep=draw(st.booleans()), residue=2))
                to = ReplicaState.DEAD if state is DRAINING else None
                there.append(replica(name, gpu, mib, state, busy=busy, pinned=pinned, to=to, residue=2))
    asleep_mib = sum(one.footprint.host_bytes for one in there if one.state is ASLEEP) // MIB
    return world(mib_of, models, there, host=asleep_mib + draw(st.sampled_from((0, 40, 1000))))


def gone(there: Snapshot, one: Alternative) -> Snapshot:
    """The same world, with those gone that leave already and those that would have to."""
    sleeps = {each.replica: each.sleeps for each in one.leaving}
    left: list[Replica] = []
    for each in there.replicas:
        if each.id not in sleeps:
            left += [] if each.state is DRAINING else [each]
        elif sleeps[each.id]:
            left.append(replace(each, state=ASLEEP, in_flight=0))
    return replace(there, replicas=tuple(left))


@settings(max_examples=150, deadline=None)
@given(crowds())
def test_what_it_says_would_be_enough_is_enough_and_no_less_would_be(there: Snapshot) -> None:
    for one in alternatives(State.of(there), A, most=9):
        plan = decide(gone(there, one))
        assert any(isinstance(action, Start | Wake) and action.model == A for action in plan.actions), one.text
        needs = there.models[0].footprint.gpu_bytes
        free = State.of(gone(there, one)).index.now.gpu[one.gpu]
        assert free >= needs
        for spared in one.leaving:
            fewer = Alternative(one.gpu, tuple(each for each in one.leaving if each is not spared))
            assert State.of(gone(there, fewer)).index.now.gpu[one.gpu] < needs


@settings(max_examples=50, deadline=None)
@given(crowds())
def test_asking_changes_nothing(there: Snapshot) -> None:
    state = State.of(there)
    alternatives(state, A)
    assert state.snapshot(there.id, there.now_s) == State.of(there).snapshot(there.id, there.now_s)

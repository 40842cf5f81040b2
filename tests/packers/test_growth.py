"""A replica that holds more than it has reserved: who makes room for it, and when it has to go itself."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from packers.growth import make_way
from packers.ledger import Ledger
from packers.types import Action, Model, Replica, ReplicaId, ReplicaState, Sleep, Snapshot, Stop
from tests.packers.worlds import ASLEEP, DRAINING, MIB, PLAIN, STARTING, model, replica, world

GROWS = ReplicaId("a-1")


def way(
    *others: Replica, more: int = 20, models: tuple[Model, ...] = (), host: int = 1000
) -> tuple[Action, ...] | None:
    known = models or (model("a"), model("b"), model("c"))
    there = world({"n/0": 100, "n/1": 100}, known, [replica("a", "n/0", 50), *others], host=host)
    return make_way(there, GROWS, more * MIB, PLAIN)


def test_what_is_free_needs_nobody_to_go() -> None:
    assert way(more=50) == ()


def test_an_idle_neighbour_goes_to_sleep_and_hears_why() -> None:
    (action,) = way(replica("b", "n/0", 40)) or ()
    assert isinstance(action, Sleep)
    assert (action.replica, action.evicted_for) == ("b-1", "a")
    assert "a-1 holds 20 MiB more than was reserved" in action.reason


def test_without_host_ram_the_neighbour_is_stopped() -> None:
    (action,) = way(replica("b", "n/0", 40), host=0) or ()
    assert isinstance(action, Stop)


def test_a_neighbour_that_leaves_already_is_enough() -> None:
    assert way(replica("b", "n/0", 40, DRAINING, to=ReplicaState.DEAD)) == ()


def test_busy_starting_pinned_and_wanted_neighbours_stay_and_so_do_those_elsewhere() -> None:
    assert way(replica("b", "n/0", 40, busy=1)) is None
    assert way(replica("b", "n/0", 40, STARTING)) is None
    assert way(replica("b", "n/0", 40), models=(model("a"), model("b", pinned=True))) is None
    assert way(replica("b", "n/0", 40), models=(model("a"), model("b", held=1))) is None
    assert way(replica("b", "n/0", 40), models=(model("a"), model("b", priority=1))) is None
    assert way(replica("c", "n/0", 40, busy=1), replica("b", "n/1", 40)) is None


def test_more_than_the_gpu_has_is_never_made() -> None:
    assert way(replica("b", "n/0", 40), more=60) is None


def test_a_sleeping_one_that_grows_is_helped_as_well() -> None:
    there = world(
        {"n/0": 100}, [model("a"), model("b")], [replica("a", "n/0", 60, ASLEEP, residue=5), replica("b", "n/0", 90)]
    )
    actions = make_way(there, GROWS, 20 * MIB, PLAIN)
    assert actions is not None
    assert [action.replica for action in actions if isinstance(action, Sleep)] == ["b-1"]


def test_a_model_that_left_the_catalog_gets_no_room() -> None:
    assert way(replica("b", "n/0", 40), models=(model("b"),)) is None


STATES = st.sampled_from([ReplicaState.READY, ReplicaState.ASLEEP, ReplicaState.STARTING])


@st.composite
def crowds(draw: st.DrawFn) -> Snapshot:
    models = [model(name, priority=draw(st.integers(0, 1)), held=draw(st.integers(0, 1))) for name in "bcd"]
    sizes = draw(st.lists(st.integers(5, 30), min_size=1, max_size=3))
    others = [
        replica(name, "n/0", mib, draw(STATES), residue=draw(st.integers(0, 4)), idle_s=draw(st.integers(0, 99)))
        for name, mib in zip("bcd", sizes, strict=False)
    ]
    free = 100 - sum(sizes)
    asleep = sum(mib for one, mib in zip(others, sizes, strict=True) if one.state is ReplicaState.ASLEEP)
    grows = replica("a", "n/0", draw(st.integers(1, free)))
    return world({"n/0": 100}, [model("a"), *models], [grows, *others], host=asleep + draw(st.integers(0, 60)))


@settings(max_examples=200, deadline=None)
@given(crowds(), st.integers(1, 100))
def test_whatever_is_answered_fits_the_ledger_and_makes_the_room(there: Snapshot, more: int) -> None:
    """Who has to wait for host RAM to sleep goes at the next asking."""
    for _ in range(len(there.replicas) + 1):
        actions = make_way(there, GROWS, more * MIB, PLAIN)
        if not actions:
            break
        there = done(there, actions)
    if actions is not None:
        ledger = Ledger.of(there)
        before = ledger.get(GROWS)
        assert before is not None
        ledger.reserve(GROWS, before.model, before.gpu, before.gpu_bytes + more * MIB)


def done(there: Snapshot, actions: tuple[Action, ...]) -> Snapshot:
    """At once, and none of it over capacity."""
    by_id = {one.id: one for one in there.replicas}
    for action in actions:
        assert isinstance(action, Sleep | Stop)
        assert action.replica != GROWS
        to = ReplicaState.ASLEEP if isinstance(action, Sleep) else ReplicaState.DEAD
        by_id[action.replica] = replace(by_id[action.replica], state=to)
        Ledger.of(replace(there, replicas=tuple(by_id.values())))
    return replace(there, replicas=tuple(one for one in by_id.values() if one.state is not ReplicaState.DEAD))

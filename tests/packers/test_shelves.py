"""Who may be evicted for whom, whatever the policy."""

from __future__ import annotations

import pytest

from packers.eviction import Harm
from packers.limits import NO_LIMITS
from packers.shelves import obstacle, shelves
from packers.trial import Trial
from packers.types import Model, Replica
from packers.verdicts import Need
from tests.packers.worlds import ASLEEP, DEAD, DRAINING, MIB, STARTING, model, replica, world


def judged(need: Need, resident: Replica, *others: Model) -> tuple[str | None, Harm | None]:
    """(why it may not go, the harm if it may) on a GPU that it fills."""
    trial = Trial.of(world({"n/0": 60}, [need.model, *others], [resident]))
    found = shelves(need, NO_LIMITS, trial)
    closest = obstacle(need, NO_LIMITS, trial)
    assert closest is not None
    if found:
        (victim,) = found[0].victims
        assert closest.blockers == ()
        return None, victim.harm
    ((blocker, why),) = closest.blockers
    assert blocker == resident
    return why, None


def urgent(name: str = "need", priority: int = 0, number: int = 1) -> Need:
    return Need(model(name, held=3, priority=priority, max_replicas=9), number, "3 requests held")


def keep_warm(priority: int = 0) -> Need:
    return Need(model("need", min_replicas=1, priority=priority), 1, "min_replicas is 1")


MAY_GO = (None, Harm.NONE)


def test_an_idle_replica_of_a_model_nobody_asks_for_may_go() -> None:
    assert judged(urgent(), replica("a", "n/0"), model("a")) == MAY_GO
    assert judged(keep_warm(), replica("a", "n/0"), model("a")) == MAY_GO


@pytest.mark.parametrize(
    ("resident", "of", "why"),
    [
        (replica("a", "n/0", pinned=True), model("a"), "pinned"),
        (replica("a", "n/0"), model("a", pinned=True), "pinned"),
        (replica("a", "n/0", state=ASLEEP, residue=60), model("a", pinned=True), "pinned"),
        (replica("a", "n/0", busy=1), model("a"), "busy"),
        (replica("a", "n/0", state=STARTING), model("a"), "starting"),
        (replica("a", "n/0"), model("a", held=1), "wanted by callers"),
        (replica("a", "n/0"), model("a", operator_wake=True), "wanted by callers"),
        (replica("a", "n/0"), model("a", min_replicas=1), "kept by min_replicas"),
    ],
)
def test_whoever_is_pinned_busy_starting_or_wanted_stays(resident: Replica, of: Model, why: str) -> None:
    assert judged(urgent(), resident, of) == (why, None)


def test_priority_moves_neither_the_pinned_nor_the_busy_nor_the_wanted() -> None:
    vip = urgent(priority=99)
    assert judged(vip, replica("a", "n/0"), model("a", pinned=True)) == ("pinned", None)
    assert judged(vip, replica("a", "n/0", busy=1), model("a")) == ("busy", None)
    assert judged(vip, replica("a", "n/0"), model("a", held=1)) == ("wanted by callers", None)


def test_only_strictly_higher_priority_takes_what_min_replicas_keeps() -> None:
    kept = replica("a", "n/0")
    assert judged(urgent(priority=1), kept, model("a", min_replicas=1)) == (None, Harm.MINIMUM)
    assert judged(urgent(priority=1), kept, model("a", min_replicas=1, priority=1)) == ("kept by min_replicas", None)


def test_a_waiting_caller_moves_an_idle_replica_of_higher_priority_but_keeping_warm_and_growing_do_not() -> None:
    vip = replica("a", "n/0")
    assert judged(urgent(), vip, model("a", priority=5)) == MAY_GO
    assert judged(keep_warm(), vip, model("a", priority=5)) == ("of higher priority", None)
    assert judged(urgent(number=2), vip, model("a", priority=5)) == ("of higher priority", None)


def test_what_is_beyond_the_demand_may_go_for_a_first_replica_only() -> None:
    busy, idle = replica("a-1", "n/1", busy=1), replica("a-2", "n/0")
    of = model("a", in_flight=1, max_replicas=2)
    for number, expected in ((1, [["a-2"]]), (2, [])):
        need = urgent(number=number)
        trial = Trial.of(world({"n/0": 60, "n/1": 60}, [need.model, of], [busy, idle]))
        assert [[v.replica.id for v in shelf.victims] for shelf in shelves(need, NO_LIMITS, trial)] == expected


def test_only_as_many_go_as_the_model_can_spare() -> None:
    mine = [replica(f"a-{place}", "n/0", 20, idle_s=place) for place in (1, 2, 3)]
    need = Need(model("need", 60, held=1, priority=1), 1, "held")
    same = Need(model("need", 60, held=1), 1, "held")
    kept = model("a", 20, min_replicas=1, max_replicas=3)
    assert shelves(same, NO_LIMITS, Trial.of(world({"n/0": 60}, [same.model, kept], mine))) == []
    (found,) = shelves(need, NO_LIMITS, Trial.of(world({"n/0": 60}, [need.model, kept], mine)))
    assert [(v.replica.id, v.harm) for v in found.victims] == [
        ("a-3", Harm.NONE),
        ("a-2", Harm.NONE),
        ("a-1", Harm.MINIMUM),
    ]


def test_sleepers_give_their_residue_unless_they_are_about_to_wake() -> None:
    asleep = replica("a", "n/0", 60, ASLEEP, residue=60)
    assert judged(urgent(), asleep, model("a")) == MAY_GO
    assert judged(keep_warm(), asleep, model("a", held=1)) == ("about to be woken", None)
    assert judged(urgent(), asleep, model("a", held=1)) == (None, Harm.WAITING)


def test_what_leaves_already_is_neither_victim_nor_obstacle() -> None:
    need = urgent()
    for resident in (
        replica("a", "n/0", state=DRAINING, to=ASLEEP),
        replica("a", "n/0", 60, ASLEEP, residue=60, to=DEAD),
    ):
        trial = Trial.of(world({"n/0": 60}, [need.model, model("a")], [resident]))
        (found,) = shelves(need, NO_LIMITS, trial)
        assert (found.victims, found.free_bytes) == ((), 60 * MIB)


def test_a_models_own_replicas_do_not_make_room_for_it_but_its_other_sleepers_do() -> None:
    assert judged(urgent("a", number=2), replica("a", "n/0"))[0] == "its own"
    mine = [replica("a-1", "n/0", 50, ASLEEP, residue=20), replica("a-2", "n/0", 60, ASLEEP, residue=20)]
    need = Need(model("a", 60, held=1), 1, "held")
    (found,) = shelves(need, NO_LIMITS, Trial.of(world({"n/0": 60}, [need.model], mine)))
    assert found.wakes is mine[0]
    assert (found.needs_bytes, found.free_bytes) == (30 * MIB, 20 * MIB)
    assert [victim.replica.id for victim in found.victims] == ["a-2"]


def test_replicas_of_models_that_left_the_catalog_may_go() -> None:
    assert judged(urgent(), replica("ghost", "n/0")) == MAY_GO


def test_the_obstacle_is_the_gpu_that_pinning_does_not_bar() -> None:
    need = urgent()
    replicas = [replica("p", "n/0", 50, pinned=True), replica("b", "n/1", 80, busy=1)]
    closest = obstacle(
        need, NO_LIMITS, Trial.of(world({"n/0": 100, "n/1": 100, "n/2": 10}, [need.model, model("b")], replicas))
    )
    assert closest is not None
    assert closest.gpu.id == "n/1"
    assert [one.id for one in closest.would_do] == ["b-1"]


def test_when_pinned_ones_bar_every_gpu_nothing_would_do() -> None:
    need = urgent()
    closest = obstacle(
        need, NO_LIMITS, Trial.of(world({"n/0": 100}, [need.model], [replica("p", "n/0", 50, pinned=True)]))
    )
    assert closest is not None
    assert closest.would_do == ()


def test_there_is_no_obstacle_where_every_gpu_is_too_small() -> None:
    need = Need(model("need", 200, held=1), 1, "held")
    assert obstacle(need, NO_LIMITS, Trial.of(world({"n/0": 100}, [need.model]))) is None

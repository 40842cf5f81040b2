"""The world that is kept between steps says what a world looked at anew says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.control.census import AT_ONCE, HEAR_EVERY_S, QUIET_FRESH_S, Census, Replicas
from models.control.history import FRESH_S
from models.control.lifecycle import Event
from models.control.messages import Reported
from models.control.tracked import Tracked
from models.fleet.virtual import settle
from models.store.records import DemandReport, ModelDemand
from packers.load import NO_LOAD
from packers.types import Demand, Footprint, GpuId, Model, ModelId, NodeId, Replica, ReplicaId, ReplicaState, Snapshot
from packers.usage import UNUSED
from tests.models.control.scene import Scene, card, entry

pytestmark = pytest.mark.anyio
NOTHING = Footprint(1, 0, 0)


def tracked(name: str, model: str) -> Tracked:
    return Tracked(ReplicaId(name), ModelId(model), NodeId("n"), GpuId("n/gpu-0"), NOTHING, "unix:/x", "/x.ctl", "hash")


class Catalog:
    """``looks``: which models were looked at, in order."""

    def __init__(self, *names: str) -> None:
        self.entries = {ModelId(name): entry(card(name, 1)) for name in names}
        self.replicas = Replicas()
        self.census = Census()
        self.looks: list[str] = []
        self.aged: list[str] = []
        self.number = 0
        self.held: set[str] = set()

    def models(self, now: float) -> tuple[Model, ...]:
        def look(of: object) -> Model:
            name = of.id  # type: ignore[attr-defined]
            self.looks.append(name)
            self.number += 1
            return Model(name, NOTHING, priority=self.number, demand=Demand(held=int(name in self.held)))

        self.looks.clear()

        def age(before: Model) -> Model:
            self.aged.append(before.id)
            return replace(before, demand=replace(before.demand, oldest_wait_s=now))

        self.aged.clear()
        return self.census.models(self.entries, look, age, self.replicas, now)


# Replicas


def test_replicas_are_found_by_model_in_the_order_of_their_ids() -> None:
    found = Replicas()
    for name, model in (("b", "m"), ("c", "other"), ("a", "m")):
        found[ReplicaId(name)] = tracked(name, model)
    assert [one.id for one in found.of_model(ModelId("m"))] == ["a", "b"]
    assert [one.id for one in found.by_id] == ["a", "b", "c"]
    assert found.pop(ReplicaId("a")).model == "m"
    assert found.pop(ReplicaId("a"), None) is None
    del found[ReplicaId("b")]
    assert (found.of_model(ModelId("m")), list(found.models)) == ([], ["other"])
    with pytest.raises(KeyError):
        found.pop(ReplicaId("a"))


def test_whatever_changes_of_a_replica_shows() -> None:
    one, catalog = tracked("a", "m"), Catalog("m")
    catalog.replicas[one.id] = one

    def look(of: Tracked, _: object) -> Replica:
        return of.as_replica(pinned=False, priority=0)

    first = catalog.census.replicas(catalog.entries, catalog.replicas, look)
    assert catalog.census.replicas(catalog.entries, catalog.replicas, look)[0] is first[0]
    one.in_flight = 3
    assert catalog.census.replicas(catalog.entries, catalog.replicas, look)[0].in_flight == 3
    one.happens(Event.SERVES, "it serves", 1.0)
    assert catalog.census.replicas(catalog.entries, catalog.replicas, look)[0].state is ReplicaState.READY


# Models


def test_only_what_was_touched_is_looked_at_again() -> None:
    catalog = Catalog("a", "b", "c")
    first = catalog.models(0.0)
    assert sorted(catalog.looks) == ["a", "b", "c"]
    assert catalog.models(0.1) is first
    catalog.census.touch(ModelId("b"), ModelId("nobody knows it"))
    second = catalog.models(0.2)
    assert catalog.looks == ["b"]
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, False, True]


def test_what_can_wait_is_looked_at_some_at_a_time_in_the_order_in_which_it_was_heard() -> None:
    names = [f"m{number:02d}" for number in range(3 * AT_ONCE)]
    catalog = Catalog(*names)
    catalog.models(0.0)
    catalog.census.hear(map(ModelId, reversed(names)), HEAR_EVERY_S)
    seen: list[str] = []
    while catalog.census.behind:
        catalog.census.take_some()
        catalog.models(HEAR_EVERY_S)
        assert len(catalog.looks) == AT_ONCE
        seen += catalog.looks
    assert set(seen[:AT_ONCE]) == set(names[-AT_ONCE:])
    assert sorted(seen) == names


def test_what_is_heard_again_and_again_is_looked_at_now_and_then() -> None:
    catalog = Catalog("a")
    catalog.models(0.0)
    looked = []
    for hundredth in range(1, 100):
        now = hundredth / 100
        catalog.census.hear([ModelId("a")], now)
        catalog.census.due(catalog.entries, now)
        catalog.census.take_some()
        catalog.models(now)
        looked += [now] * len(catalog.looks)
    assert 4 <= len(looked) <= 9
    assert all(later - one >= HEAR_EVERY_S for one, later in itertools.pairwise(looked))


def test_what_is_known_is_looked_at_again_when_it_is_old() -> None:
    catalog = Catalog("quiet", "used")
    catalog.replicas[ReplicaId("r")] = tracked("r", "used")
    catalog.models(0.0)
    looked: dict[float, list[str]] = {}
    for tenth in range(1, 10 * int(QUIET_FRESH_S) + 2):
        now = tenth / 10
        catalog.census.due(catalog.entries, now)
        catalog.census.take_some()
        catalog.models(now)
        if catalog.looks:
            looked[now] = list(catalog.looks)
    assert len([at_s for at_s, names in looked.items() if "used" in names]) == int(QUIET_FRESH_S / FRESH_S)
    assert [at_s for at_s, names in looked.items() if "quiet" in names] == [QUIET_FRESH_S]


def test_a_model_that_somebody_waits_for_ages_in_every_step() -> None:
    catalog = Catalog("a", "b")
    catalog.held = {"b"}
    catalog.models(0.0)
    assert [model.demand.oldest_wait_s for model in catalog.models(0.1)] == [0.0, 0.1]
    assert (catalog.looks, catalog.aged) == ([], ["b"])
    catalog.held = set()
    catalog.census.touch(ModelId("b"))
    catalog.models(0.2)
    catalog.models(0.3)
    assert (catalog.looks, catalog.aged) == ([], [])


def test_another_catalog_is_looked_at_whole_and_what_left_it_is_gone() -> None:
    catalog = Catalog("a", "b")
    catalog.models(0.0)
    catalog.entries = {ModelId("b"): catalog.entries[ModelId("b")], ModelId("c"): entry(card("c", 1))}
    assert [model.id for model in catalog.models(0.1)] == ["b", "c"]
    assert sorted(catalog.looks) == ["b", "c"]
    catalog.census.touch_all()
    catalog.models(0.2)
    assert sorted(catalog.looks) == ["b", "c"]


# Together with the controller


def of_lasting(snapshot: Snapshot) -> Snapshot:
    """Without what may be as old as FRESH_S, or a few milliseconds where it can wait."""
    models = tuple(replace(model, usage=UNUSED, load=NO_LOAD) for model in snapshot.models)
    replicas = tuple(replace(one, last_used_s=0.0, in_flight=min(1, one.in_flight)) for one in snapshot.replicas)
    return replace(snapshot, models=models, replicas=replicas)


deeds = st.lists(
    st.tuples(
        st.sampled_from(("hold", "busy", "idle", "wake", "sleep", "stop", "kill", "wait")), st.sampled_from("abc")
    ),
    max_size=25,
)


@given(deeds)
@settings(max_examples=30, deadline=None)
async def test_the_kept_world_is_the_world(done: list[tuple[str, str]]) -> None:
    scene = Scene([card("a", 60), card("b", 50, max_replicas=2), card("c", 40)], gpus_mib=(100, 60))
    for deed, model in done:
        ready = [one.id for one in scene.controller.world.of_model(ModelId(model)) if one.state is ReplicaState.READY]
        if deed == "hold":
            scene.hold(model)
        elif deed in ("busy", "idle") and ready:
            scene.busy[ready[0]] = int(deed == "busy")
        elif deed == "kill" and ready:
            await scene.fleet.kill(ready[0])
        elif deed in ("wake", "sleep", "stop"):
            scene.order(deed, model, wait=False)
        await scene.run(0.3)
        world = scene.controller.world
        kept, shown = of_lasting(world.snapshot(scene.clock())), world.shown()
        world.census.touch_all()
        world.census.due(world.entries, scene.clock())
        assert of_lasting(world.snapshot(scene.clock())) == kept
        assert world.shown() == shown


async def test_hundreds_that_are_called_keep_nobody_waiting() -> None:
    """Of the demand of 100 models a step takes some; the one that is waited for is among them."""
    scene = Scene([card(f"m{number:03d}", 1) for number in range(101)])
    await scene.run(0.05)
    await scene.clock.advance(HEAR_EVERY_S)
    now = scene.clock()
    demand = {f"m{number:03d}": ModelDemand(in_flight=1, arrived=1, last_request_unix_s=now) for number in range(100)}
    demand["m100"] = ModelDemand(held=1, oldest_held_unix_s=now, arrived=1)
    report = DemandReport(worker="other", routes_version=1, sent_unix_s=now, since_unix_s=now, models=demand)
    scene.controller.post(Reported(report))
    scene.controller.step()
    assert [one.model for one in scene.controller.world.replicas.values()] == ["m100"]
    census = scene.controller.world.census
    behind = [census.behind]
    await scene.controller.catch_up()
    assert [*behind, census.behind] == [True, False]
    await scene.controller.flush()
    await settle()
    in_flight = {model.id: model.demand.in_flight for model in scene.controller.world.snapshot(now).models}
    assert sum(in_flight.values()) == 100


def test_what_becomes_of_a_replica_happens_to_its_model() -> None:
    catalog = Catalog("a", "b")
    one = tracked("r", "b")
    catalog.models(0.0)

    def looked_at() -> list[str]:
        catalog.census.replicas(catalog.entries, catalog.replicas, lambda of, _: of.as_replica(False, 0))
        catalog.models(0.1)
        return catalog.looks

    catalog.replicas[one.id] = one
    assert looked_at() == ["b"]
    one.in_flight = 2
    assert looked_at() == []
    one.happens(Event.SERVES, "it serves", 0.2)
    assert looked_at() == ["b"]
    del catalog.replicas[one.id]
    assert looked_at() == ["b"]

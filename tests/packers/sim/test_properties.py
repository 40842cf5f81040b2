"""Whatever the world and the traffic are."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.autoscale.registry import AUTOSCALING
from packers.decide import Policies
from packers.defrag.plan import DEFRAG
from packers.eviction import EVICTION
from packers.ledger import Ledger
from packers.placement import RULES
from packers.sim import GpuLost, SimOptions, SimResult, SimWorld, StartUp, TierTime, Trace, simulate
from packers.sim.check import check
from packers.sim.run import Simulation
from packers.types import GpuId
from tests.packers.sim.scenes import GB, model, world

NAMES = "abcde"


@st.composite
def worlds(draw: st.DrawFn) -> SimWorld:
    models = [
        model(
            name,
            draw(st.integers(1, 11)),
            residue=draw(st.integers(0, 1)),
            ttl_s=draw(st.sampled_from([5.0, 60.0, float("inf")])),
            max_replicas=draw(st.integers(1, 3)),
            min_replicas=draw(st.integers(0, 1)),
            target_in_flight=draw(st.integers(1, 4)),
            can_sleep=draw(st.booleans()),
            priority=draw(st.integers(0, 1)),
        )
        for name in NAMES
    ]
    startup = StartUp(
        TierTime(draw(st.sampled_from([0.0, 3.0])), draw(st.sampled_from([2.0 * GB, math.inf]))),
        TierTime(draw(st.sampled_from([0.0, 0.5]))),
        TierTime(draw(st.sampled_from([0.0, 1.0]))),
        draw(st.sampled_from([0.0, 0.5])),
    )
    gpus = draw(st.lists(st.sampled_from([6, 10]), min_size=1, max_size=3))
    return world(
        models, gpus=gpus, host=draw(st.sampled_from([0, 8, 100])), startup=startup, link=draw(st.sampled_from([0, 3]))
    )


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    calls = draw(
        st.lists(
            st.tuples(st.integers(0, 60), st.integers(0, len(NAMES) - 1), st.sampled_from([0.1, 2.0, 20.0])),
            min_size=1,
            max_size=40,
        )
    )
    return Trace.of(NAMES, [one[0] for one in calls], [one[1] for one in calls], [one[2] for one in calls])


@st.composite
def options(draw: st.DrawFn) -> SimOptions:
    lost = draw(st.lists(st.floats(0, 60), max_size=1))
    return SimOptions(
        seed=draw(st.integers(0, 9)),
        slots=draw(st.sampled_from([None, 1, 2])),
        tick_s=draw(st.sampled_from([None, 0.0, 0.5])),
        hold_timeout_s=draw(st.sampled_from([3.0, 50.0])),
        hold_limit=draw(st.sampled_from([None, 2])),
        drain_timeout_s=draw(st.sampled_from([1.0, 30.0])),
        fail_start_share=draw(st.sampled_from([0.0, 0.3])),
        fail_wake_share=draw(st.sampled_from([0.0, 0.3])),
        loads_per_gpu=draw(st.integers(0, 2)),
        events=tuple(GpuLost(at_s, GpuId("n/0")) for at_s in lost),
        keep_waits=True,
    )


@st.composite
def policies(draw: st.DrawFn) -> Policies:
    return Policies(
        placement=draw(st.sampled_from(sorted(RULES))),
        eviction=draw(st.sampled_from(sorted(EVICTION))),
        scaling=draw(st.sampled_from(sorted(AUTOSCALING))),
        defrag=draw(st.sampled_from(sorted(DEFRAG))),
        patience_s=draw(st.sampled_from((None, 0.0, 30.0))),
        prewarm=draw(st.booleans()),
    )


def counted(found: SimResult) -> SimResult:
    """Every request ended in exactly one way, and the totals are those of the models."""
    assert found.served >= 0
    assert found.served + found.timed_out + found.refused + found.failed == found.requests
    assert sum(one.requests for one in found.models) == found.requests
    for field in ("delayed", "timed_out", "refused", "failed", "evictions", "starts_disk", "starts_host"):
        assert sum(getattr(one, field) for one in found.models) == getattr(found, field)
    assert found.waits_s is not None
    assert np.count_nonzero(np.isnan(found.waits_s)) == found.refused
    waited_s = found.waits_s[~np.isnan(found.waits_s)]
    assert (waited_s >= 0).all()
    assert np.count_nonzero(waited_s > 0) <= found.delayed + found.queued
    assert found.hours.occupied <= found.hours.resident + 1e-9
    assert found.hours.resident <= found.hours.provisioned + 1e-9
    return found


@settings(max_examples=150, deadline=None)
@given(worlds(), traces(), policies(), options())
def test_every_request_is_accounted_for_once(there: SimWorld, trace: Trace, which: Policies, how: SimOptions) -> None:
    found = counted(simulate(trace, there, which, how))
    assert found.waits.max_s <= how.hold_timeout_s + 1e-6
    assert len(json.dumps(found.to_json())) > 100


@settings(max_examples=100, deadline=None)
@given(worlds(), traces(), policies(), options())
def test_nothing_is_ever_over_capacity(there: SimWorld, trace: Trace, which: Policies, how: SimOptions) -> None:
    check(trace, there, how)
    simulation = Simulation(trace, there, which, how)
    control, seen = simulation.control, []

    def look(now_s: float) -> None:
        snapshot = control.state.snapshot("now", now_s)
        Ledger.of(snapshot)  # raises when replicas hold more than there is
        alive = {one.id for one in snapshot.replicas}
        assert alive == set(control.runners)
        for replica in snapshot.replicas:
            lane = simulation.lanes[replica.model]
            in_flight = len(control.runners[replica.id].ends_s)
            assert bool(replica.in_flight) == bool(in_flight)
            assert lane.alone or replica.in_flight == in_flight
            assert lane.model.id == replica.model
        for one in snapshot.models:
            held = len(simulation.lanes[one.id].queue)
            assert bool(one.demand.held) == bool(held)
            assert simulation.lanes[one.id].alone or one.demand.held == held
        seen.append(now_s)

    watched = replace(how, before_decide=look)
    simulation.options = control.options = watched
    counted(simulation.run(None))
    assert seen == sorted(seen)
    assert len(seen) == simulation.meter.decisions


@settings(max_examples=100, deadline=None)
@given(worlds(), traces(), policies(), options())
def test_what_the_state_is_not_told_changes_nothing(
    there: SimWorld, trace: Trace, which: Policies, how: SimOptions
) -> None:
    """How busy a model's only replica is, and how many wait for it while it starts, is left out to save time."""
    told = Simulation(trace, there, which, how)
    for lane in told.lanes.values():
        lane.alone = False
    found, exact = simulate(trace, there, which, how), told.run(None)
    assert [replace(one, reason="") for one in found.decisions.last] == [
        replace(one, reason="") for one in exact.decisions.last
    ]
    assert replace(found, decisions=exact.decisions) == exact


@settings(max_examples=50, deadline=None)
@given(worlds(), traces(), policies(), options())
def test_the_same_again_is_the_same(there: SimWorld, trace: Trace, which: Policies, how: SimOptions) -> None:
    assert simulate(trace, there, which, how) == simulate(trace, there, which, how)


@settings(max_examples=50, deadline=None)
@given(worlds(), traces(), policies(), options(), st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_listed_changes_nothing(
    there: SimWorld, trace: Trace, which: Policies, how: SimOptions, chance: object
) -> None:
    shuffle = chance.shuffle  # type: ignore[attr-defined]
    gpus, models, names = list(there.gpus), list(there.models), list(range(len(NAMES)))
    for one in (gpus, models, names):
        shuffle(one)
    place = np.argsort(names)
    other = replace(trace, names=tuple(trace.names[old] for old in names), model=place[trace.model].astype(np.int32))
    turned = replace(there, gpus=tuple(gpus), models=tuple(models))
    assert simulate(other, turned, which, how) == simulate(trace, there, which, how)

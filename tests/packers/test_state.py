"""The world kept up to date fact by fact decides as the same world told at once; a refused fact changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.decide import decide_on
from packers.ledger import LedgerError, OverCapacity, UnknownGpu, UnknownNode
from packers.load import ScaleMemory
from packers.state import State
from packers.types import Demand, GpuId, Model, ModelId, Node, NodeId, Plan, Pool, PoolId, Replica, ReplicaId, Snapshot
from packers.usage import Usage
from tests.packers.test_plans import NAMES, snapshots, some_model, some_replica
from tests.packers.worlds import (
    ASLEEP,
    DEAD,
    DRAINING,
    MIB,
    NOW_S,
    PLAIN,
    STARTING,
    decide,
    gpus,
    model,
    replica,
    short,
    world,
)

A, A1, G0 = ModelId("a"), ReplicaId("a-1"), GpuId("n/0")


def decided(state: State, now_s: float = NOW_S) -> Plan:
    """What it decides, and that it decides so again, and as a State made of its snapshot does."""
    plan = decide_on(state, "s", now_s, PLAIN)
    assert decide_on(state, "s", now_s, PLAIN) == plan
    assert decide(state.snapshot("s", now_s)) == plan
    return plan


# Facts in, facts out


def test_a_snapshot_goes_in_and_comes_out_sorted() -> None:
    there = world({"n/1": 100, "n/0": 100}, [model("b"), model("a")], [replica("b", "n/1"), replica("a", "n/0")])
    there = replace(there, pools=(Pool(PoolId("spot")), Pool(PoolId("owned"))))
    out = State.of(there).snapshot(there.id, there.now_s)
    assert [gpu.id for gpu in out.gpus] == ["n/0", "n/1"]
    assert [one.id for one in out.replicas] == ["a-1", "b-1"]
    assert [one.id for one in out.models] == ["a", "b"]
    assert [pool.id for pool in out.pools] == ["owned", "spot"]
    for kind in ("gpus", "nodes", "replicas", "models", "pools"):
        assert set(getattr(out, kind)) == set(getattr(there, kind))
    assert State.of(out).snapshot(out.id, out.now_s) == out


def test_what_changes_at_every_request_shows_wherever_one_looks() -> None:
    state = State.of(world({"n/0": 100}, [model("a")], [replica("a", "n/0")]))
    state.set_use(A1, 3, 990.0)
    state.set_use(A1, 4, 991.0)
    assert (state.replicas[A1].in_flight, state.replicas[A1].last_used_s) == (4, 991.0)
    state.set_demand(A, Demand(held=2))
    state.set_usage(A, Usage(arrivals=7), state.models[A].load)
    state.set_memory(A, ScaleMemory())
    state.set_demand(A, Demand(held=3))
    (seen,) = state.snapshot("s", NOW_S).models
    assert seen == replace(model("a"), demand=Demand(held=3), usage=Usage(arrivals=7), scale_memory=ScaleMemory())


def test_a_demand_starts_a_model_and_its_end_stops_nothing_before_the_ttl() -> None:
    state = State.of(world({"n/0": 100}, [model("a", ttl_s=60)]))
    assert short(decided(state)) == []
    state.set_demand(A, Demand(held=1))
    assert short(decided(state)) == ["start a on n/0"]
    state.put_replica(replica("a", "n/0", state=STARTING, idle_s=0))
    assert short(decided(state)) == []
    state.put_replica(replica("a", "n/0", idle_s=0))
    state.set_demand(A, Demand())
    assert short(decided(state, NOW_S + 59.9)) == []
    assert short(decided(state, NOW_S + 60)) == ["sleep a-1"]
    assert short(decided(state, NOW_S)) == [], "asking about later has changed nothing"


def test_models_come_and_go() -> None:
    state = State.of(world({"n/0": 100}, [model("a"), model("b", held=1)], [replica("a", "n/0")]))
    assert short(decided(state)) == ["sleep a-1 for b", "hold b"]
    state.drop_model(A)
    assert short(decided(state)) == ["stop a-1", "hold b"], "it is in no catalog any more"
    state.put_model(model("a", pinned=True))
    assert short(decided(state)) == ["hold b"]
    state.put_model(model("a"))
    assert short(decided(state)) == ["sleep a-1 for b", "hold b"]


def test_gpus_come_and_go() -> None:
    state = State.of(world({"n/0": 100}, [model("a", 200, held=1)]))
    assert short(decided(state)) == ["refuse a"]
    larger = gpus({"o/0": 300})[0]
    state.put_node(Node(larger.node, 0))
    state.put_gpu(larger)
    assert short(decided(state)) == ["start a on o/0"]
    state.drop_gpu(larger.id)
    state.drop_node(larger.node)
    assert short(decided(state)) == ["refuse a"]


def test_a_replica_moves_on_through_its_life() -> None:
    state = State.of(world({"n/0": 100}, [model("a")], host=60))
    free = []
    for life in (STARTING, (DRAINING, ASLEEP), ASLEEP, (ASLEEP, DEAD), DEAD):
        at, to = life if isinstance(life, tuple) else (life, None)
        state.put_replica(replica("a", "n/0", 60, at, to=to, residue=5))
        free.append((state.index.now.gpu[G0] // MIB, state.index.soon.gpu[G0] // MIB))
    assert free == [(40, 40), (40, 95), (95, 95), (95, 100), (100, 100)]
    assert list(state.replicas) == [A1], "a dead one stays until it is dropped"
    state.drop_replica(A1)
    assert list(state.replicas) == []


# Refusals


REFUSED: dict[str, tuple[type[LedgerError], Callable[[State], None]]] = {
    "too large": (OverCapacity, lambda state: state.put_replica(replica("b", "n/0", 50))),
    "grown beyond its GPU": (OverCapacity, lambda state: state.put_replica(replica("a", "n/0", 101))),
    "moved to a full GPU": (OverCapacity, lambda state: state.put_replica(replica("a", "n/1", 60))),
    "no host RAM": (OverCapacity, lambda state: state.put_replica(replica("b", "n/0", 1, ASLEEP, host=1001))),
    "unknown GPU": (UnknownGpu, lambda state: state.put_replica(replica("b", "x/9", 5))),
    "GPU of no node": (UnknownNode, lambda state: state.put_gpu(gpus({"x/0": 5})[0])),
    "GPU with replicas": (LedgerError, lambda state: state.drop_gpu(G0)),
    "node with GPUs": (LedgerError, lambda state: state.drop_node(NodeId("n"))),
    "GPU shrinks": (LedgerError, lambda state: state.put_gpu(gpus({"n/0": 59})[0])),
    "node shrinks": (LedgerError, lambda state: state.put_node(Node(NodeId("n"), 9 * MIB))),
    "use of nobody": (LedgerError, lambda state: state.set_use(ReplicaId("z-1"), 1, 1.0)),
    "demand for nothing": (LedgerError, lambda state: state.set_demand(ModelId("z"), Demand())),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_fact_that_cannot_be_is_refused_and_changes_nothing(what: str) -> None:
    residents = [replica("a", "n/0"), replica("c", "n/1", 90), replica("s", "n/1", 10, ASLEEP)]
    state = State.of(world({"n/0": 100, "n/1": 100}, [model("a"), model("b", held=1)], residents))
    before, plan = state.snapshot("s", NOW_S), decided(state)
    error, do = REFUSED[what]
    with pytest.raises(error):
        do(state)
    assert state.snapshot("s", NOW_S) == before
    assert decided(state) == plan


@pytest.mark.parametrize(
    "twice",
    [
        lambda: world({"n/0": 100}, [], [replica("a", "n/0", 20), replica("a", "n/0", 20)]),
        lambda: replace(world({"n/0": 100}), gpus=gpus({"n/0": 5}) * 2),
        lambda: replace(world({"n/0": 100}), nodes=(Node(NodeId("n"), 5), Node(NodeId("n"), 6))),
    ],
)
def test_nothing_may_be_listed_twice(twice: Callable[[], Snapshot]) -> None:
    with pytest.raises(LedgerError, match="twice"):
        State.of(twice())


# Any history


THERE = gpus({f"{'no'[place % 2]}/{place}": 100 for place in range(4)})
FACTS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(0, 9), st.integers(0, 2), st.integers(0, 900)),
        st.tuples(st.just("demand"), st.sampled_from(NAMES), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("drop model"), st.sampled_from(NAMES)),
        st.tuples(st.just("model"), st.sampled_from(NAMES).flatmap(some_model)),
        st.tuples(st.just("drop replica"), st.integers(0, 9)),
        st.tuples(st.just("replica"), st.integers(0, 9).flatmap(lambda at: some_replica(at, THERE))),
        st.tuples(st.just("drop gpu"), st.integers(0, 3)),
        st.tuples(st.just("gpu"), st.integers(0, 3), st.sampled_from([60, 100, 200])),
        st.tuples(st.just("decide")),
    ),
    max_size=25,
)


def tell(state: State, fact: tuple) -> None:
    match fact:
        case ("use", place, in_flight, idle_s):
            for one in [one for one in state.replicas if one.endswith(f"-{place}")]:
                state.set_use(one, in_flight, NOW_S - idle_s)
        case ("demand", name, held, in_flight):
            state.set_demand(ModelId(name), Demand(in_flight, held))
        case ("drop model", name):
            state.drop_model(ModelId(name))
        case ("model", changed):
            state.put_model(changed)
        case ("drop replica", place):
            for one in [one for one in state.replicas if one.endswith(f"-{place}")]:
                state.drop_replica(one)
        case ("replica", changed):
            state.put_replica(changed)
        case ("drop gpu", place):
            state.drop_gpu(THERE[place].id)
        case ("gpu", place, mib):
            state.put_gpu(replace(THERE[place], memory_bytes=mib * MIB))
        case ("decide",):
            decide_on(state, "s", NOW_S, PLAIN)


@settings(max_examples=300, deadline=None)
@given(snapshots(), FACTS)
def test_after_any_history_it_decides_as_the_world_told_at_once(start: Snapshot, facts: list[tuple]) -> None:
    state = State.of(start)
    for fact in facts:
        before = state.snapshot("s", NOW_S)
        try:
            tell(state, fact)
        except LedgerError:
            assert state.snapshot("s", NOW_S) == before
    snapshot = state.snapshot("s", NOW_S)
    assert State.of(snapshot).snapshot("s", NOW_S) == snapshot
    decided(state)


@settings(max_examples=300, deadline=None)
@given(snapshots(), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_between_now_and_the_next_time_nothing_new_is_decided(start: Snapshot, shares: list[float]) -> None:
    state = State.of(start)
    next_s = state.next_time_s(NOW_S)
    last_s = NOW_S + 20_000 if next_s is None else next_s
    assert last_s > NOW_S
    now = short(decided(state))
    for share in shares:
        at_s = NOW_S + share * (last_s - NOW_S)
        if at_s < last_s or next_s is None:
            assert short(decided(state, at_s)) == now


@pytest.mark.parametrize(
    ("models", "replicas", "next_s"),
    [
        ([model("a", ttl_s=60)], [replica("a", "n/0", idle_s=10)], NOW_S + 50),
        ([model("a", ttl_s=60)], [replica("a", "n/0", idle_s=10, busy=1)], None),
        ([model("a", ttl_s=60)], [replica("a", "n/0", state=ASLEEP, idle_s=10)], NOW_S + 590),
        ([model("a", held=1, retry_at_s=NOW_S + 3)], [], NOW_S + 3),
        ([model("a", retry_at_s=NOW_S + 3)], [], None),
        ([model("a", ttl_s=60, min_replicas=1)], [replica("a", "n/0", idle_s=10)], None),
        ([model("a", ttl_s=9)], [replica("a", "n/0", idle_s=10)], None),
    ],
)
def test_the_next_time_is_when_something_expires_is_forgotten_or_retried(
    models: list[Model], replicas: list[Replica], next_s: float | None
) -> None:
    state = State.of(world({"n/0": 100}, models, replicas))
    assert state.next_time_s(NOW_S) == next_s
    if next_s is not None:
        assert short(decided(state, next_s)) != short(decided(state))

"""Worlds with everything in them: groups of GPUs, types, pools, cordons, neighbours, compute, small KV caches."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hypothesis import strategies as st

from packers.ledger import LedgerError
from packers.state import State
from packers.types import (
    Action,
    Footprint,
    Gpu,
    GpuId,
    Hold,
    Model,
    ModelId,
    Node,
    NodeId,
    Pool,
    PoolId,
    PoolKind,
    Refuse,
    Replica,
    ReplicaId,
    ReplicaState,
    Resize,
    Sleep,
    Snapshot,
    Start,
    Stop,
    Wake,
)
from tests.packers.test_plans import NAMES, STATES, some_model
from tests.packers.worlds import ASLEEP, DEAD, DRAINING, MIB, NOW_S, READY, STARTING

POOLS = (Pool(PoolId("owned")), Pool(PoolId("spot"), PoolKind.SPOT, 0.4, 0.2))


@st.composite
def some_footprint(draw: st.DrawFn, most_mib: int) -> Footprint:
    mib = draw(st.integers(8, most_mib))
    kv_mib = draw(st.integers(0, mib // 2))
    return Footprint(
        (mib - kv_mib) * MIB,
        kv_mib * MIB,
        0,
        residue_bytes=draw(st.sampled_from([0, 0, mib // 4])) * MIB,
        host_bytes=draw(st.integers(0, 60)) * MIB,
        kv_min_bytes=draw(st.sampled_from([None, 0, kv_mib // 2 * MIB])),
        compute_milli=draw(st.sampled_from([0, 0, 300, 600])),
        cpu_milli=draw(st.sampled_from([0, 500])),
    )


@st.composite
def wide_model(draw: st.DrawFn, name: str) -> Model:
    of = draw(some_model(name))
    others = st.lists(st.sampled_from(NAMES), max_size=1).map(lambda names: tuple(ModelId(one) for one in names))
    return replace(
        of,
        footprint=draw(some_footprint(140)),
        tensor_parallel=draw(st.sampled_from([1, 1, 2, 3])),
        gpu_types=draw(st.sampled_from([(), (), ("big",), ("big", "small")])),
        affinity=draw(others),
        anti_affinity=draw(others),
        wakes_anywhere=draw(st.booleans()),
        resizes=draw(st.booleans()),
    )


@st.composite
def wide_gpus(draw: st.DrawFn) -> tuple[Gpu, ...]:
    found = []
    for place in range(draw(st.integers(1, 5))):
        node = NodeId("no"[place % 2])
        kind = draw(st.sampled_from(["big", "small"]))
        found.append(
            Gpu(
                GpuId(f"{node}/{place}"),
                node,
                place,
                (100 if kind == "small" else 200) * MIB,
                kind,
                pool=draw(st.sampled_from(POOLS)).id,
                cordoned=draw(st.integers(0, 4)) == 0,
            )
        )
    return tuple(found)


@st.composite
def wide_replica(draw: st.DrawFn, place: int, there: tuple[Gpu, ...], models: tuple[Model, ...]) -> Replica:
    state, to = draw(st.sampled_from(STATES))
    model = draw(st.sampled_from([*models, None]))
    gpus = draw(st.permutations(there))
    mates = [gpu.id for gpu in gpus if gpu.node == gpus[0].node][: model.tensor_parallel if model else 1]
    footprint = model.footprint if model and draw(st.booleans()) else draw(some_footprint(90))
    return Replica(
        ReplicaId(f"{model.id if model else 'ghost'}-{place}"),
        model.id if model else ModelId("ghost"),
        mates[0],
        state,
        footprint,
        in_flight=draw(st.sampled_from([0, 0, 1])) if state in (READY, DRAINING) else 0,
        last_used_s=NOW_S - draw(st.integers(0, 900)),
        state_since_s=NOW_S - draw(st.integers(0, 900)),
        pinned=draw(st.integers(0, 7)) == 0,
        draining_to=to,
        peers=tuple(mates[1:]),
        replaces=ReplicaId(f"{model.id if model else 'ghost'}-{place - 1}") if draw(st.integers(0, 5)) == 0 else None,
    )


@st.composite
def wide_worlds(draw: st.DrawFn) -> Snapshot:
    """Any models, and whichever of ten replicas there is room for."""
    there = draw(wide_gpus())
    cpu_milli = draw(st.sampled_from([0, 2000]))
    nodes = [Node(NodeId(name), draw(st.sampled_from([0, 60, 1000])) * MIB, cpu_milli) for name in "no"]
    state = State(there, nodes, POOLS)
    models = tuple(draw(wide_model(name)) for name in NAMES[: draw(st.integers(0, 4))])
    for of in models:
        state.put_model(of)
    for place in range(draw(st.integers(0, 10))):
        with suppress(LedgerError):
            state.put_replica(draw(wide_replica(place, there, models)))
    return state.snapshot("s", NOW_S)


def carry_out(state: State, action: Action, place: int) -> None:
    """What the world is right after the action has begun. Raises LedgerError when it does not fit."""
    match action:
        case Start():
            name, gpu = ReplicaId(f"new-{place}"), action.gpu
            state.put_replica(
                Replica(
                    name, action.model, gpu, STARTING, action.footprint, peers=action.peers, replaces=action.replaces
                )
            )
        case Wake():
            one = state.replicas[action.replica]
            state.put_replica(replace(one, state=STARTING, gpu=action.gpu, peers=action.peers))
        case Sleep():
            state.put_replica(replace(state.replicas[action.replica], state=DRAINING, draining_to=ASLEEP))
        case Stop():
            one = state.replicas[action.replica]
            state.put_replica(replace(one, state=_ending(one.state), draining_to=DEAD))
        case Resize():
            one = state.replicas[action.replica]
            footprint = replace(one.footprint, kv_cache_bytes=action.kv_cache_bytes)
            state.put_replica(replace(one, footprint=footprint))
        case Hold() | Refuse():
            pass


def _ending(state: ReplicaState) -> ReplicaState:
    return ASLEEP if state is ASLEEP else DRAINING

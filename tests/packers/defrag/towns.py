"""Random small clusters for properties, and how moves, drains and resizes are carried out on a State.

Carrying out raises OverCapacity from the State's own ledger at the first step that does not fit.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from packers.defrag.drain import Drain
from packers.defrag.moves import Move, Way
from packers.ledger import OverCapacity
from packers.state import State
from packers.types import (
    Demand,
    Footprint,
    Gpu,
    GpuId,
    Model,
    ModelId,
    Node,
    NodeId,
    Replica,
    ReplicaId,
    ReplicaState,
    Snapshot,
    Stop,
)

MIB = 1 << 20
NOW_S = 10_000.0
READY, STARTING, ASLEEP, DRAINING = (
    ReplicaState.READY,
    ReplicaState.STARTING,
    ReplicaState.ASLEEP,
    ReplicaState.DRAINING,
)


@st.composite
def towns(draw: st.DrawFn, *, groups: bool = True, all_settled: bool = False) -> Snapshot:
    """One to three nodes with one to three GPUs each; up to twelve replicas, each of its own model or of a few."""
    nodes, gpus = [], []
    for number in range(draw(st.integers(1, 3))):
        node = NodeId(f"n{number}")
        nodes.append(Node(node, 200 * MIB, cpu_milli=draw(st.sampled_from((0, 0, 8000)))))
        for index in range(draw(st.integers(1, 3))):
            memory = draw(st.sampled_from((100, 100, 100, 60)))
            name = draw(st.sampled_from(("A100", "A100", "L4")))
            cordoned = draw(st.integers(0, 9)) == 0
            gpus.append(Gpu(GpuId(f"{node}/{index}"), node, index, memory * MIB, name, cordoned=cordoned))
    state = State(gpus, nodes)
    for number in range(draw(st.integers(0, 12))):
        _settle_one(draw, state, number, groups, all_settled)
    return state.snapshot("town", NOW_S)


def _settle_one(draw: st.DrawFn, state: State, number: int, groups: bool, all_settled: bool) -> None:
    name = ModelId(f"m{number:02}")
    mib = draw(st.integers(1, 70))
    print_ = Footprint(
        mib * MIB // 2,
        mib * MIB - mib * MIB // 2,
        0,
        residue_bytes=draw(st.sampled_from((0, MIB))),
        host_bytes=10 * MIB,
        kv_min_bytes=draw(st.sampled_from((None, 0, mib * MIB // 4))),
        compute_milli=draw(st.sampled_from((0, 0, 400))),
        cpu_milli=draw(st.sampled_from((0, 0, 2000))),
    )
    rivals = (ModelId(f"m{draw(st.integers(0, 11)):02}"),) if draw(st.integers(0, 4)) == 0 else ()
    gpu = draw(st.sampled_from(sorted(state.gpus)))
    peers = [other.id for other in state.index.of_node(state.gpus[gpu].node) if other.id != gpu]
    spans = 2 if groups and peers and draw(st.integers(0, 4)) == 0 else 1
    model = Model(
        name,
        print_,
        min_replicas=draw(st.integers(0, 1)),
        demand=Demand(held=draw(st.integers(0, 1))),
        tensor_parallel=spans,
        gpu_types=("A100",) if draw(st.integers(0, 4)) == 0 else (),
        anti_affinity=rivals,
        resizes=draw(st.booleans()),
    )
    where = READY if all_settled else draw(st.sampled_from((READY, READY, READY, READY, STARTING, ASLEEP, DRAINING)))
    got = print_
    if print_.kv_min_bytes is not None:
        got = replace(print_, kv_cache_bytes=draw(st.integers(print_.kv_min_bytes, print_.kv_cache_bytes)))
    replica = Replica(
        ReplicaId(f"{name}-1"),
        name,
        gpu,
        where,
        got,
        in_flight=draw(st.integers(0, 1)) if where is READY else 0,
        pinned=draw(st.integers(0, 5)) == 0,
        draining_to=ReplicaState.DEAD if where is DRAINING else None,
        peers=(draw(st.sampled_from(peers)),) if spans == 2 else (),
    )
    try:
        state.put_replica(replica)
    except OverCapacity:
        return
    state.put_model(model)


def shuffled(town: Snapshot) -> Snapshot:
    return replace(
        town,
        gpus=town.gpus[::-1],
        nodes=town.nodes[::-1],
        replicas=town.replicas[::-1],
        models=town.models[1:] + town.models[:1],
    )


def carry_out(state: State, moves: tuple[Move, ...]) -> None:
    """One after the other. Every substitute serves before the old one leaves, unless the move is a gap."""
    for move in moves:
        old = state.replicas[move.replica]
        if move.way is Way.GAP:
            state.drop_replica(old.id)
        new = ReplicaId(f"{move.replica}-moved")
        state.put_replica(
            Replica(new, move.model, move.target[0], READY, move.footprint, peers=move.target[1:], replaces=old.id)
        )
        state.drop_replica(old.id)


def carry_out_drain(state: State, drain: Drain) -> None:
    for step in drain.steps:
        if isinstance(step, Stop):
            state.drop_replica(step.replica)
        else:
            carry_out(state, (step,))
    for waiting in drain.waits:
        state.drop_replica(waiting)

"""Tiny worlds in MiB: ``world({"n/0": 100}, [model("a", 60)], [replica("a", "n/0", 60)])``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from packers import decide as deciding
from packers.decide import Policies
from packers.types import (
    Action,
    Demand,
    Footprint,
    Gpu,
    GpuId,
    Hold,
    Model,
    ModelId,
    Node,
    NodeId,
    Plan,
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

# Most stories are about the rules, whatever the policies: the plainest make them easy to follow.
PLAIN = Policies(placement="best-fit", eviction="lru", patience_s=None, swaps_per_minute=None)
MIB = 1 << 20
NOW_S = 1000.0
STARTING, READY, ASLEEP = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.ASLEEP
DRAINING, DEAD = ReplicaState.DRAINING, ReplicaState.DEAD


def decide(snapshot: Snapshot, policies: Policies = PLAIN) -> Plan:
    return deciding.decide(snapshot, policies)


def footprint(mib: int, residue: int = 0, host: int | None = None) -> Footprint:
    """Half weights, a quarter KV cache, the rest overhead; asleep it holds as much host RAM unless said otherwise."""
    weights, kv = mib * MIB // 2, mib * MIB // 4
    host_bytes = (mib if host is None else host) * MIB
    return Footprint(weights, kv, mib * MIB - weights - kv, residue * MIB, host_bytes)


def model(
    name: str,
    mib: int = 60,
    *,
    held: int = 0,
    in_flight: int = 0,
    waited_s: float = 0.0,
    operator_wake: bool = False,
    residue: int = 0,
    host: int | None = None,
    min_replicas: int = 0,
    max_replicas: int = 1,
    ttl_s: float = 600.0,
    priority: int = 0,
    pinned: bool = False,
    can_sleep: bool = True,
    target_in_flight: int = 32,
    retry_at_s: float = 0.0,
) -> Model:
    return Model(
        ModelId(name),
        footprint(mib, residue, host),
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        ttl_s=ttl_s,
        priority=priority,
        pinned=pinned,
        can_sleep=can_sleep,
        target_in_flight=target_in_flight,
        demand=Demand(in_flight, held, waited_s, operator_wake),
        retry_at_s=retry_at_s,
    )


def replica(
    name: str,
    gpu: str,
    mib: int = 60,
    state: ReplicaState = READY,
    *,
    busy: int = 0,
    idle_s: float = 10.0,
    residue: int = 0,
    host: int | None = None,
    to: ReplicaState | None = None,
    pinned: bool = False,
) -> Replica:
    """``name`` is "model" or "model-number". It was last used ``idle_s`` ago."""
    full = name if "-" in name else f"{name}-1"
    return Replica(
        ReplicaId(full),
        ModelId(full.split("-")[0]),
        GpuId(gpu),
        state,
        footprint(mib, residue, host),
        in_flight=busy,
        last_used_s=NOW_S - idle_s,
        pinned=pinned,
        draining_to=to,
    )


def gpus(mib_of: Mapping[str, int]) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(GpuId(name), NodeId(name.split("/")[0]), place, mib * MIB)
        for place, (name, mib) in enumerate(mib_of.items())
    )


def nodes(of: Sequence[Gpu], host_mib: int) -> tuple[Node, ...]:
    return tuple(Node(node, host_mib * MIB) for node in dict.fromkeys(gpu.node for gpu in of))


def world(
    mib_of: Mapping[str, int],
    models: Sequence[Model] = (),
    replicas: Sequence[Replica] = (),
    *,
    host: int = 1000,
    now_s: float = NOW_S,
) -> Snapshot:
    """GPUs by "node/index" with their MiB; every node has ``host`` MiB of RAM for sleepers."""
    there = gpus(mib_of)
    return Snapshot("s1", now_s, there, nodes(there, host), tuple(replicas), tuple(models))


def short(plan: Plan) -> list[str]:
    """The plan at a glance: ["sleep a-1 for b", "hold b"]."""
    return [_short(action) for action in plan.actions]


def _short(action: Action) -> str:
    match action:
        case Start(model=name, gpu=gpu):
            return f"start {name} on {gpu}"
        case Wake(replica=name):
            return f"wake {name}"
        case Sleep(replica=name, evicted_for=None):
            return f"sleep {name}"
        case Sleep(replica=name, evicted_for=needing):
            return f"sleep {name} for {needing}"
        case Stop(replica=name, evicted_for=None):
            return f"stop {name}"
        case Stop(replica=name, evicted_for=needing):
            return f"stop {name} for {needing}"
        case Resize(replica=name, kv_cache_bytes=kv_bytes):
            return f"resize {name} to {kv_bytes // MIB}"
        case Hold(model=name):
            return f"hold {name}"
        case Refuse(model=name):
            return f"refuse {name}"


def reasons(plan: Plan) -> dict[str, str]:
    """Each action at a glance -> its reason."""
    return {_short(action): action.reason for action in plan.actions}

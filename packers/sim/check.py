"""Worlds and traces that make no sense are refused before anything runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from packers.ledger import Ledger, LedgerError
from packers.sim.errors import SimError
from packers.sim.options import GpuJoins, SimOptions
from packers.sim.trace import Trace
from packers.sim.world import SimWorld
from packers.types import Gpu, Node, ReplicaState


def check(trace: Trace, world: SimWorld, options: SimOptions) -> None:
    """Raises SimError: no requests, unknown models, sizes that are negative or NaN, things named twice or not there."""
    if not len(trace):
        raise SimError("trace: it has no requests in the time that is to be simulated")
    known = world.model_ids
    for name, count in trace.counts().items():
        if name not in known:
            raise SimError(f"trace: it has {count} requests for model {name!r}, which world.models does not have")
    _once("world.models", (model.id for model in world.models))
    _once("world.gpus", (gpu.id for gpu in world.gpus))
    _once("world.nodes", (node.id for node in world.nodes))
    _once("world.pools", (pool.id for pool in world.pools))
    for gpu in world.gpus:
        _check_gpu(gpu)
    for node in world.nodes:
        _check_node(node)
    for pool in world.pools:
        for field in ("price_per_gpu_hour", "reclaims_per_hour"):
            _not_negative(f"world.pools.{pool.id}.{field}", getattr(pool, field))
    _check_places(world, options)
    _check_replicas(world)


def _check_gpu(gpu: Gpu) -> None:
    if not 0 < gpu.memory_bytes < math.inf:
        raise SimError(f"world.gpus.{gpu.id}.memory_bytes must be above 0, got {gpu.memory_bytes}")
    _not_negative(f"world.gpus.{gpu.id}.compute_milli", gpu.compute_milli)


def _check_node(node: Node) -> None:
    for field in ("host_bytes", "cpu_milli", "link_bytes_per_s"):
        _not_negative(f"world.nodes.{node.id}.{field}", getattr(node, field))


def _not_negative(field: str, value: float) -> None:
    if not 0 <= value < math.inf:  # NaN is neither
        raise SimError(f"{field} must be 0 or more, got {value}")


def _check_places(world: SimWorld, options: SimOptions) -> None:
    nodes = {node.id for node in world.nodes}
    joins = [event for event in options.events if isinstance(event, GpuJoins)]
    later = {event.node.id for event in joins if event.node is not None}
    for gpu in world.gpus:
        if gpu.node not in nodes:
            raise SimError(f"world.gpus.{gpu.id}.node: {gpu.node!r} is not in world.nodes")
    for event in joins:
        _check_gpu(event.gpu)
        if event.gpu.node not in nodes | later:
            raise SimError(f"options.events: GPU {event.gpu.id} joins on node {event.gpu.node!r}, which is not there")
    gpus = {gpu.id for gpu in world.gpus} | {event.gpu.id for event in joins}
    leaves = [event for event in options.events if not isinstance(event, GpuJoins)]
    for gone in leaves:
        if gone.gpu not in gpus:
            raise SimError(f"options.events: GPU {gone.gpu!r} at {gone.at_s} s is not in world.gpus")


def _check_replicas(world: SimWorld) -> None:
    _once("world.replicas", (replica.id for replica in world.replicas))
    ledger = Ledger(world.gpus, world.nodes)
    for replica in world.replicas:
        where = f"world.replicas.{replica.id}"
        if replica.state not in (ReplicaState.READY, ReplicaState.ASLEEP) or replica.draining_to is not None:
            raise SimError(f"{where}.state must be ready or asleep in the beginning, got {replica.state.value}")
        if replica.model not in world.model_ids:
            raise SimError(f"{where}.model: {replica.model!r} is not in world.models")
        if replica.in_flight:
            raise SimError(f"{where}.in_flight must be 0 in the beginning, got {replica.in_flight}")
        try:
            ledger.hold(replica)
        except LedgerError as problem:
            raise SimError(f"{where}: {problem}") from None


def _once(where: str, ids: Iterable[str]) -> None:
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise SimError(f"{where}: {twice[0]!r} is there twice")

"""A mix of asks as arrays, and how much of a node's free room each of them could use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from packers.placement.ask import WHOLE_GPU_MILLI, Ask
from packers.placement.cluster import Cluster, Floats, Ints
from packers.placement.mix import Share

FEW_KINDS = 128  # of asks that a policy looks at: more are merged, so that a decision stays quick
GRAINS = (0, 64, 32, 16, 8, 4)  # how finely sizes are told apart then, from exactly to hardly


@dataclass(frozen=True, slots=True)
class NodeStates:
    """What would be free on some nodes, a row each. ``milli`` and ``memory``: [rows, GPUs], thousandths of a GPU.

    Memory is measured in thousandths of the cluster's largest GPU memory, so that both are of one scale; where it is
    not counted, it is all there. A GPU that may not be used has -1 of both.
    """

    kind: Ints
    cpu_milli: Ints
    host_bytes: Ints
    milli: Floats
    memory: Floats

    @property
    def size(self) -> Floats:
        """Free share of each GPU: of what is scarcer, memory or compute."""
        return np.asarray(np.minimum(self.milli, self.memory))


@dataclass(frozen=True, slots=True)
class Usable:
    """[rows, kinds of asks]. ``room``: the GPU room that asks of a kind fit into, in thousandths of a GPU; 0 when the
    node's GPUs or CPUs do not do for a single one. ``fed``: how much GPU room the node's free CPUs and host RAM could
    feed, if asks of that kind took them all; infinite for asks that need neither."""

    room: Floats
    fed: Floats


class Kind(NamedTuple):
    """Asks that are alike to a policy. ``milli`` and ``memory``: thousandths of a GPU, on each of ``gpus``."""

    gpus: int
    milli: float
    memory: float
    cpu_milli: int

    @property
    def size(self) -> float:
        return self.gpus * max(self.milli, self.memory)


@dataclass(slots=True)
class Weight:
    """Of one kind: per kind of nodes, 0 where the GPU type rules it out; and its share and mean host RAM."""

    per_nodes: list[float]
    share: float = 0.0
    share_bytes: float = 0.0


class Targets:
    """``weights``: [kinds of nodes, kinds of asks], of which all, those of asks without GPU included, add up to 1."""

    def __init__(self, cluster: Cluster, shares: Iterable[Share], size_exponent: float = 0.0) -> None:
        """An ask counts with its share times its size in GPUs to the power of ``size_exponent`` (without GPU: 1)."""
        total, kinds = _weigh(cluster, tuple(shares), size_exponent)
        ordered = sorted(kinds)
        weights = np.array([kinds[kind].per_nodes for kind in ordered]).reshape(len(ordered), len(cluster.kinds))
        self.weights: Floats = np.ascontiguousarray(weights.T / (total or 1.0))
        shapes = sorted({kind[:3] for kind in ordered})
        place = {shape: index for index, shape in enumerate(shapes)}
        self._shape_of: Ints = np.array([place[kind[:3]] for kind in ordered], np.int64)
        self._gpus: Ints = np.array([shape[0] for shape in shapes], np.int64)
        self._milli: Floats = np.array([shape[1] for shape in shapes], np.float64)
        self._memory: Floats = np.array([shape[2] for shape in shapes], np.float64)
        self._cpu: Ints = np.array([kind.cpu_milli for kind in ordered], np.int64)
        self._feed([kind.size for kind in ordered], [kinds[kind] for kind in ordered])
        self._needs_milli, self._needs_memory = bool(self._milli.any()), bool(self._memory.any())

    def _feed(self, sizes: Sequence[float], weights: Sequence[Weight]) -> None:
        """GPU room per CPU milli and per byte of host RAM; infinite where an ask needs none."""
        host_bytes = np.array([one.share_bytes / one.share if one.share else 0.0 for one in weights], np.float64)
        with np.errstate(divide="ignore"):
            self._fed_per_cpu: Floats = np.where(self._cpu > 0, sizes / np.maximum(self._cpu, 1), np.inf)
            self._fed_per_byte: Floats = np.where(host_bytes > 0, sizes / np.maximum(host_bytes, 1), np.inf)
        self._needs_host = bool(host_bytes.any())

    def __len__(self) -> int:
        return len(self._cpu)

    def usable(self, states: NodeStates) -> Usable:
        # take, not [:, ...]: rows that lie in one piece are summed in the same order, however many there are.
        room = np.take(self._room(states), self._shape_of, axis=1)
        cpu = states.cpu_milli[:, None]
        room *= cpu >= self._cpu
        # Where no CPU is asked for, any number of them feeds any room; 0 * inf must not come up.
        fed = np.maximum(cpu, 1) * self._fed_per_cpu
        if self._needs_host:
            fed = np.minimum(fed, np.maximum(states.host_bytes[:, None], 1) * self._fed_per_byte)
        return Usable(room, fed)

    def _room(self, states: NodeStates) -> Floats:
        """[rows, shapes]: the sum over the GPUs that an ask of that shape fits on, 0 when they are too few for it."""
        if self._needs_milli and self._needs_memory:
            with np.errstate(divide="ignore", invalid="ignore"):
                times = np.minimum(
                    np.where(self._milli > 0, states.milli[:, :, None] / self._milli, np.inf),
                    np.where(self._memory > 0, states.memory[:, :, None] / self._memory, np.inf),
                )
            fits = times >= 1
            room = np.where(fits, times * np.maximum(self._milli, self._memory), 0.0).sum(axis=1)
        else:
            free, need = (states.memory, self._memory) if self._needs_memory else (states.milli, self._milli)
            fits = free[:, :, None] >= need
            room = (fits * free[:, :, None]).sum(axis=1)
        room[fits.sum(axis=1) < self._gpus] = 0.0
        return np.asarray(room)


def _weigh(cluster: Cluster, shares: Sequence[Share], exponent: float) -> tuple[float, dict[Kind, Weight]]:
    """The sum of all weights, and each kind's. Kinds are made coarser until there are few enough to be quick."""
    largest_bytes = int(cluster.total_bytes.max(initial=0))
    scale = WHOLE_GPU_MILLI / largest_bytes if largest_bytes else 0.0
    for grains in GRAINS:
        total = 0.0
        kinds: dict[Kind, Weight] = {}
        for one in shares:
            ask = one.ask
            exact = Kind(ask.gpus, float(ask.compute_milli), ask.gpu_bytes * scale, ask.cpu_milli)
            weight = one.share * (exact.size / WHOLE_GPU_MILLI if exact.size else 1.0) ** exponent
            total += weight
            if exact.size:
                kind = coarse(exact, grains) if grains else exact
                found = kinds.setdefault(kind, Weight([0.0] * len(cluster.kinds)))
                found.share += one.share
                found.share_bytes += one.share * ask.host_bytes
                for nodes in _nodes_for(ask, cluster):
                    found.per_nodes[nodes] += weight
        if len(kinds) <= FEW_KINDS:
            break
    return total, kinds


def coarse(kind: Kind, grains: int) -> Kind:
    """Rounded up to so many parts of a GPU, and CPUs to ``grains`` steps per doubling."""
    grain = WHOLE_GPU_MILLI / grains
    step = max(1, (1 << kind.cpu_milli.bit_length()) // (2 * grains))
    return Kind(
        kind.gpus,
        math.ceil(kind.milli / grain) * grain,
        math.ceil(kind.memory / grain) * grain,
        -(-kind.cpu_milli // step) * step,
    )


def _nodes_for(ask: Ask, cluster: Cluster) -> list[int]:
    if not ask.gpu_types:
        return list(range(len(cluster.kinds)))
    codes = {cluster.types[name] for name in ask.gpu_types if name in cluster.types}
    return [kind for kind, there in enumerate(cluster.kinds) if there & codes]

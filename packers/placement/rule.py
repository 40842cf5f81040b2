"""What a policy is: a pure rule that scores candidates. Finding, caching and choosing them is the Placer's work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from packers.placement.ask import WHOLE_GPU_MILLI, Ask
from packers.placement.cluster import Bools, Cluster, Floats, Ints
from packers.placement.mix import Share
from packers.placement.targets import NodeStates, Targets


@dataclass(frozen=True, slots=True)
class Candidates:
    """Ways to place ``ask``: ``rows[i]`` is a node, ``columns[i]`` the GPUs of it that would be used."""

    cluster: Cluster
    ask: Ask
    rows: Ints
    columns: Ints  # [candidates, ask.gpus]
    memory_scale: float  # to thousandths of the largest GPU memory


class Rule(Protocol):
    """A placement policy. ``score``: lower is better; candidates of equal score are a tie.

    ``targets``: what the policy wants to know of the mix, None if nothing; ``worth``: what it thinks the free room of
    nodes is worth on its own, computed once per node and change and handed to ``score`` as ``before``, one number for
    each candidate's node.
    """

    @property
    def name(self) -> str: ...

    def targets(self, cluster: Cluster, shares: tuple[Share, ...]) -> Targets | None: ...

    def worth(self, states: NodeStates, targets: Targets) -> Floats: ...

    def score(self, candidates: Candidates, targets: Targets | None, before: Floats | None) -> Floats: ...


class NoMix:
    """For policies that look at nothing but what is free."""

    def targets(self, cluster: Cluster, shares: tuple[Share, ...]) -> Targets | None:
        return None

    def worth(self, states: NodeStates, targets: Targets) -> Floats:
        return np.zeros(len(states.cpu_milli))


def memory_scale(cluster: Cluster) -> float:
    """Thousandths of the largest GPU memory in a byte; 0 when no GPU's memory is counted."""
    largest_bytes = int(cluster.total_bytes.max(initial=0))
    return WHOLE_GPU_MILLI / largest_bytes if largest_bytes else 0.0


def states_of(cluster: Cluster, rows: Ints, scale: float) -> NodeStates:
    """What is free on these nodes now."""
    usable = cluster.present[rows] & ~cluster.cordoned[rows]
    milli = np.where(usable, cluster.free_milli[rows], -1.0)
    memory = np.where(usable, cluster.free_bytes[rows] * scale if scale else WHOLE_GPU_MILLI, -1.0)
    return NodeStates(cluster.kind[rows], cluster.free_cpu[rows], cluster.free_host[rows], milli, memory)


def states_after(candidates: Candidates) -> NodeStates:
    """What would be free on each candidate's node after it."""
    ask, scale = candidates.ask, candidates.memory_scale
    states = states_of(candidates.cluster, candidates.rows, scale)
    each = np.arange(len(candidates.rows))[:, None]
    states.milli[each, candidates.columns] -= ask.compute_milli
    states.memory[each, candidates.columns] -= ask.gpu_bytes * scale
    cpu_milli, host_bytes = states.cpu_milli - ask.cpu_milli, states.host_bytes - ask.host_bytes
    return NodeStates(states.kind, cpu_milli, host_bytes, states.milli, states.memory)


def feasible(cluster: Cluster, ask: Ask, rows: Ints) -> tuple[Bools, Bools]:
    """([rows, GPUs], [rows]): the GPUs where one part of the ask fits, and the nodes where all of it does."""
    fits = cluster.present[rows] & ~cluster.cordoned[rows]
    fits &= cluster.free_milli[rows] >= ask.compute_milli
    if ask.gpu_bytes:
        fits &= cluster.free_bytes[rows] >= ask.gpu_bytes
    if ask.gpu_types:
        fits &= _allowed(cluster, ask)[cluster.type[rows]]
    enough = (cluster.free_cpu[rows] >= ask.cpu_milli) & (cluster.free_host[rows] >= ask.host_bytes)
    return fits, enough & (fits.sum(axis=1) >= ask.gpus)


def candidates_of(cluster: Cluster, ask: Ask, rows: Ints, scale: float) -> Candidates:
    """Every way to place the ask on these nodes that differs: of GPUs that are alike only the first.

    A group takes the GPUs with the least free room that it fits on: what stays free is then in the largest pieces.
    """
    fits, enough = feasible(cluster, ask, rows)
    if ask.gpus == 1:
        fits &= enough[:, None]
        fits &= ~cluster.repeated[rows]
        places, columns = np.nonzero(fits)
        return Candidates(cluster, ask, rows[places], columns[:, None], scale)
    rows, fits = rows[enough], fits[enough]
    free = states_of(cluster, rows, scale).size
    tightest = np.argsort(np.where(fits, free, np.inf), axis=1, kind="stable")[:, : ask.gpus]
    return Candidates(cluster, ask, rows, np.sort(tightest, axis=1), scale)


def _allowed(cluster: Cluster, ask: Ask) -> Bools:
    """Indexed by type code; the last one stands for the code -1 of a GPU that is not there."""
    allowed: Bools = np.zeros(len(cluster.types) + 1, np.bool_)
    allowed[[cluster.types[name] for name in ask.gpu_types if name in cluster.types]] = True
    return allowed

"""A scratch copy of what is free, on which a plan of moves is tried out. The State stays as it is.

Free is what is free now and also once everything under way is done: memory that another decision has promised away, or
that a replica on its way to sleep will still hold, is not used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from packers.ledger import leaving
from packers.limits import Limits, limits
from packers.state import State
from packers.types import Footprint, Gpu, GpuId, Model, ModelId, NodeId, Replica, ReplicaId, ReplicaState

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]


class Board:
    """GPUs are rows, in the order of their ids. ``touched``: replicas with which the caller does something else."""

    def __init__(self, state: State, now_s: float, touched: Collection[ReplicaId] = ()) -> None:
        state.settle()
        self.now_s = now_s
        self.state, self.index = state, state.index
        self.models: Mapping[ModelId, Model] = state.models
        self.gpus: tuple[Gpu, ...] = state.index.order
        self.row = {gpu.id: row for row, gpu in enumerate(self.gpus)}
        now, soon = state.index.now, state.index.soon
        ids = [gpu.id for gpu in self.gpus]
        self.memory: Ints = np.array([gpu.memory_bytes for gpu in self.gpus], np.int64)
        self.free: Ints = np.array([min(now.gpu[gpu], soon.gpu[gpu]) for gpu in ids], np.int64)
        self.milli: Ints = np.array([min(now.compute[gpu], soon.compute[gpu]) for gpu in ids], np.int64)
        self.open: Bools = np.array([not gpu.shut for gpu in self.gpus], np.bool_)
        nodes = sorted(state.nodes)
        place = {node: number for number, node in enumerate(nodes)}
        self.node: Ints = np.array([place[gpu.node] for gpu in self.gpus], np.int64)
        # A node that does not count its CPU cores has enough of them.
        self.cpu: Ints = np.array(
            [min(now.cpu[node], soon.cpu[node]) if state.nodes[node].cpu_milli else 1 << 60 for node in nodes], np.int64
        )
        self.replaced = {one.replaces for one in state.index.substitutes.values()}
        # What will be left of what is there, for judging how full a GPU is: not what leaves, nor what is replaced.
        self.used: Ints = self.memory - np.array([soon.gpu[gpu] for gpu in ids], np.int64)
        for name in self.replaced:
            old = state.replicas.get(name) if name is not None else None
            if old is not None and old.state is ReplicaState.READY:
                self.used[self.rows(old)] -= old.footprint.gpu_bytes
        self._touched = frozenset(touched)
        self._entered: dict[ModelId, list[NodeId]] = {}

    def on(self, gpu: GpuId) -> Iterator[Replica]:
        """Everything alive there, by id."""
        return iter(sorted(self.index.on_gpu(gpu), key=lambda one: one.id))

    def rows(self, replica: Replica) -> list[int]:
        return [self.row[gpu] for gpu in replica.gpus]

    def pinned(self, replica: Replica) -> bool:
        model = self.models.get(replica.model)
        return replica.pinned or (model is not None and model.pinned)

    def in_change(self, replica: Replica) -> bool:
        """Something is done with it already: it leaves, it is replaced, or the caller has plans for it."""
        return leaving(replica) or replica.id in self.replaced or replica.id in self._touched

    def substitute(self, replica: Replica) -> bool:
        """It was started to replace another that is still there."""
        return replica.replaces is not None and replica.replaces in self.state.replicas

    def limits(self, model: Model) -> Limits:
        entered = {name: set(nodes) for name, nodes in self._entered.items() if nodes}
        return limits(model, self.index, self.state.surroundings, entered)

    def allowed(self, model: Model) -> Bools:
        """The GPUs on which it may be at all."""
        where = self.limits(model)
        if where.none:
            return self.open.copy()
        return np.array([where.refusal(gpu) is None for gpu in self.gpus], np.bool_) & self.open

    def room(self, footprint: Footprint, gpus: int) -> Bools:
        """Where one part of a group of so many GPUs fits, as things are on the board."""
        enough = (self.free >= footprint.gpu_bytes) & (self.milli >= footprint.compute_milli)
        cpu_milli = footprint.cpu_milli * gpus
        return enough & (self.cpu[self.node] >= cpu_milli) if cpu_milli else enough

    def enter(self, model: ModelId, footprint: Footprint, rows: list[int]) -> None:
        """A substitute starts there."""
        self.hold(footprint, rows)
        self._entered.setdefault(model, []).append(self.gpus[rows[0]].node)

    def take_back(self, model: ModelId, footprint: Footprint, rows: list[int]) -> None:
        """Undo ``enter``."""
        self.leave(footprint, rows)
        self._entered[model].remove(self.gpus[rows[0]].node)

    def hold(self, footprint: Footprint, rows: list[int]) -> None:
        """Undo ``leave``."""
        self._change(footprint, rows, 1)

    def leave(self, footprint: Footprint, rows: list[int]) -> None:
        """What was there before the plan goes."""
        self._change(footprint, rows, -1)

    def _change(self, footprint: Footprint, rows: list[int], sign: int) -> None:
        self.free[rows] -= sign * footprint.gpu_bytes
        self.used[rows] += sign * footprint.gpu_bytes
        self.milli[rows] -= sign * footprint.compute_milli
        self.cpu[self.node[rows[0]]] -= sign * footprint.cpu_milli * len(rows)


def may_move(replica: Replica, board: Board, settle_s: float, busy: bool = False) -> bool:
    """By choice: it serves, is settled and idle, nobody has pinned it, nothing else is done with it, and its GPU can be
    told of it. ``busy``: it need not be idle."""
    return (
        replica.state is ReplicaState.READY
        and (busy or replica.in_flight == 0)
        and replica.model in board.models
        and not board.pinned(replica)
        and not board.state.gpus[replica.gpu].closed
        and not board.in_change(replica)
        and not board.substitute(replica)
        and board.now_s - replica.state_since_s >= settle_s
    )

"""What is free on every GPU and node, as arrays that change in place.

Rows are nodes in order of their ids, columns their GPUs in order of index and id. Whoever owns the loop owns its
Cluster and changes it with ``take`` and ``give_back``; both are exact (whole numbers), neither can exceed a capacity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from packers.placement.ask import Ask, PlacementError, Spot, whole_number
from packers.types import OWNED, Gpu, GpuId, Node, NodeId, Pool, PoolId, PoolKind

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

UNCOUNTED = 1 << 60  # free CPU of a node whose cores are not counted: more than anybody asks for


@dataclass(frozen=True, slots=True)
class Taken:
    """What ``take`` took, to be given back."""

    node: NodeId
    gpus: tuple[GpuId, ...]
    gpu_bytes: int
    compute_milli: int
    cpu_milli: int
    host_bytes: int


class Cluster:
    """``revision`` counts changes; ``touched[row]`` is the one that changed a row last, so that others can follow."""

    def __init__(self, gpus: Iterable[Gpu], nodes: Iterable[Node], pools: Iterable[Pool] = ()) -> None:
        """Raises PlacementError for unknown nodes, repeated ids, and sizes that are no whole numbers of at least 0."""
        self.nodes = tuple(sorted(nodes, key=lambda node: node.id))
        self.row_of: dict[NodeId, int] = {node.id: row for row, node in enumerate(self.nodes)}
        gpus = tuple(sorted(gpus, key=lambda gpu: (gpu.node, gpu.index, gpu.id)))
        self.gpus_of: list[list[Gpu]] = [[] for _ in self.nodes]
        for gpu in gpus:
            if gpu.node not in self.row_of:
                raise PlacementError(f"GPU {gpu.id!r} is on node {gpu.node!r}, which is not among the nodes")
            self.gpus_of[self.row_of[gpu.node]].append(gpu)
        self.place_of: dict[GpuId, tuple[int, int]] = {
            gpu.id: (row, column) for row, there in enumerate(self.gpus_of) for column, gpu in enumerate(there)
        }
        if len(self.row_of) < len(self.nodes) or len(self.place_of) < len(gpus):
            raise PlacementError("two GPUs or two nodes have the same id; ids have to be unique in the cluster")
        self.revision = 0
        self.touched: Ints = np.zeros(len(self.nodes), np.int64)
        self._fill(len(self.nodes), max((len(there) for there in self.gpus_of), default=0))
        self._sort_pools(pools)

    def _fill(self, rows: int, columns: int) -> None:
        self.total_bytes: Ints = np.zeros((rows, columns), np.int64)
        self.total_milli: Ints = np.zeros((rows, columns), np.int64)
        self.present: Bools = np.zeros((rows, columns), np.bool_)
        self.cordoned: Bools = np.zeros((rows, columns), np.bool_)
        self.type: Ints = np.full((rows, columns), -1, np.int64)
        self.types: dict[str, int] = {
            name: code for code, name in enumerate(sorted({gpu.name for there in self.gpus_of for gpu in there}))
        }
        for row, there in enumerate(self.gpus_of):
            for column, gpu in enumerate(there):
                self.total_bytes[row, column] = whole_number(f"gpu {gpu.id}", "memory_bytes", gpu.memory_bytes)
                self.total_milli[row, column] = whole_number(f"gpu {gpu.id}", "compute_milli", gpu.compute_milli)
                self.present[row, column] = True
                self.cordoned[row, column] = gpu.shut
                self.type[row, column] = self.types[gpu.name]
        # Nodes with the same types of GPUs are of one kind: a policy weighs what fits per kind, not per node.
        codes = [tuple(sorted({code for code in row if code >= 0})) for row in self.type.tolist()]
        self.kinds = [frozenset(kind) for kind in sorted(set(codes))]
        kind_of = {kind: place for place, kind in enumerate(self.kinds)}
        self.kind: Ints = np.array([kind_of[frozenset(kind)] for kind in codes], np.int64)
        self._free_all()
        # True where an earlier GPU of the node is of the same type with the same room: that is the same choice again.
        self.repeated: Bools = np.zeros((rows, columns), np.bool_)
        for row in range(rows):
            self._mark_repeated(row)

    def _free_all(self) -> None:
        owners = [(f"node {node.id}", node) for node in self.nodes]
        cpu_milli = [whole_number(owner, "cpu_milli", node.cpu_milli) or UNCOUNTED for owner, node in owners]
        self.total_cpu: Ints = np.array(cpu_milli, np.int64)
        self.total_host: Ints = np.array(
            [whole_number(who, "host_bytes", one.host_bytes) for who, one in owners], np.int64
        )
        self.free_bytes, self.free_milli = self.total_bytes.copy(), self.total_milli.copy()
        self.free_cpu, self.free_host = self.total_cpu.copy(), self.total_host.copy()

    def _sort_pools(self, pools: Iterable[Pool]) -> None:
        """``rank`` of a node: 0 for what is owned, then the cheaper and the safer contract first."""
        known = {pool.id: pool for pool in pools}
        known.setdefault(OWNED, Pool(OWNED))
        for pool in known.values():
            for name in ("price_per_gpu_hour", "reclaims_per_hour"):
                if not getattr(pool, name) >= 0:  # "not >=" refuses NaN, too
                    raise PlacementError(f"pool {pool.id}.{name} must not be negative, got {getattr(pool, name)}")

        def cost(name: PoolId) -> tuple[bool, float, float]:
            pool = known.get(name, Pool(name))
            owned = pool.kind is PoolKind.OWNED
            return not owned, 0.0 if owned else pool.price_per_gpu_hour, pool.reclaims_per_hour

        dearest = [max((cost(gpu.pool) for gpu in there), default=cost(OWNED)) for there in self.gpus_of]
        order = {one: place for place, one in enumerate(sorted(set(dearest)))}
        self.rank: Ints = np.array([order[one] for one in dearest], np.int64)
        self.ranks = len(order)

    # What is there

    def __len__(self) -> int:
        return len(self.nodes)

    def free_gpu(self, gpu: GpuId) -> tuple[int, int]:
        """(bytes, compute milli) free on the GPU, cordoned or not. Raises PlacementError for an unknown one."""
        row, column = self._place(gpu)
        return int(self.free_bytes[row, column]), int(self.free_milli[row, column])

    def free_node(self, node: NodeId) -> tuple[int, int]:
        """(cpu milli, host bytes) free on the node."""
        row = self._row(node)
        return int(self.free_cpu[row]), int(self.free_host[row])

    def gpu_at(self, row: int, column: int) -> Gpu:
        return self.gpus_of[row][column]

    # What changes

    def take(self, spot: Spot, ask: Ask) -> Taken:
        """Take what ``ask`` needs where ``spot`` says; keep the answer to give it back."""
        if len(spot.gpus) != ask.gpus:
            raise PlacementError(f"ask.gpus is {ask.gpus}, but the spot names {len(spot.gpus)} GPUs")
        taken = Taken(spot.node, spot.gpus, ask.gpu_bytes, ask.compute_milli, ask.cpu_milli, ask.host_bytes)
        self.hold(taken)
        return taken

    def hold(self, taken: Taken) -> None:
        """Take these amounts, from cordoned GPUs, too: what is there already holds them whatever is wanted now.

        Raises PlacementError, and changes nothing, when they are more than is free, or when GPUs are repeated,
        unknown, or of another node.
        """
        row, columns = self._check(taken)
        for name, free, needed in self._dimensions(taken, row, columns):
            if needed > free:
                raise PlacementError(f"{name}: {needed} are needed, {free} are free")
        self._change(taken, row, columns, -1)

    def give_back(self, taken: Taken) -> None:
        """Undo a ``take``. Raises PlacementError, and changes nothing, when more would be free than there is."""
        row, columns = self._check(taken)
        totals = [self.total_bytes, self.total_milli]
        for column in columns:
            for total, free, back in zip(
                totals, (self.free_bytes, self.free_milli), (taken.gpu_bytes, taken.compute_milli), strict=True
            ):
                if free[row, column] + back > total[row, column]:
                    raise PlacementError(f"GPU {self.gpu_at(row, column).id}: more is given back than was taken")
        counted = self.total_cpu[row] != UNCOUNTED
        if counted and self.free_cpu[row] + taken.cpu_milli > self.total_cpu[row]:
            raise PlacementError(f"node {taken.node}: more cpu_milli is given back than was taken")
        if self.free_host[row] + taken.host_bytes > self.total_host[row]:
            raise PlacementError(f"node {taken.node}: more host_bytes is given back than was taken")
        self._change(taken, row, columns, 1)

    def cordon(self, gpu: GpuId, cordoned: bool = True) -> None:
        """From now on nothing new goes to that GPU (or may again)."""
        row, column = self._place(gpu)
        self.cordoned[row, column] = cordoned
        self._mark_repeated(row)
        self._touched(row)

    def copy(self) -> Cluster:
        """An independent cluster with the same things taken."""
        twin = Cluster.__new__(Cluster)
        twin.__dict__.update(self.__dict__)
        for name in ("free_bytes", "free_milli", "free_cpu", "free_host", "cordoned", "repeated", "touched"):
            setattr(twin, name, getattr(self, name).copy())
        return twin

    def _change(self, taken: Taken, row: int, columns: Sequence[int], sign: int) -> None:
        for column in columns:
            self.free_bytes[row, column] += sign * taken.gpu_bytes
            self.free_milli[row, column] += sign * taken.compute_milli
        if self.total_cpu[row] != UNCOUNTED:
            self.free_cpu[row] += sign * taken.cpu_milli
        self.free_host[row] += sign * taken.host_bytes
        if columns:
            self._mark_repeated(row)
        self._touched(row)

    def _mark_repeated(self, row: int) -> None:
        seen: set[tuple[int, int, int, bool]] = set()
        rooms = zip(
            self.free_bytes[row].tolist(),
            self.free_milli[row].tolist(),
            self.type[row].tolist(),
            self.cordoned[row].tolist(),
            strict=True,
        )
        repeated = []
        for room in rooms:
            repeated.append(room in seen)
            seen.add(room)
        self.repeated[row] = repeated

    def _touched(self, row: int) -> None:
        self.revision += 1
        self.touched[row] = self.revision

    def _dimensions(self, taken: Taken, row: int, columns: Sequence[int]) -> list[tuple[str, int, int]]:
        node = f"node {taken.node}"
        found = [
            (f"{node}.cpu_milli", int(self.free_cpu[row]), taken.cpu_milli),
            (f"{node}.host_bytes", int(self.free_host[row]), taken.host_bytes),
        ]
        for column in columns:
            gpu = f"gpu {self.gpu_at(row, column).id}"
            found.append((f"{gpu}.memory_bytes", int(self.free_bytes[row, column]), taken.gpu_bytes))
            found.append((f"{gpu}.compute_milli", int(self.free_milli[row, column]), taken.compute_milli))
        return found

    def _check(self, taken: Taken) -> tuple[int, list[int]]:
        for name in ("gpu_bytes", "compute_milli", "cpu_milli", "host_bytes"):
            whole_number("taken", name, getattr(taken, name))
        row = self._row(taken.node)
        places = [self._place(gpu) for gpu in taken.gpus]
        if any(place[0] != row for place in places) or len(set(places)) < len(places):
            raise PlacementError(f"GPUs {', '.join(taken.gpus)} are not different GPUs of node {taken.node}")
        return row, [column for _, column in places]

    def _row(self, node: NodeId) -> int:
        row = self.row_of.get(node)
        if row is None:
            raise PlacementError(f"node {node!r} is not in the cluster")
        return row

    def _place(self, gpu: GpuId) -> tuple[int, int]:
        place = self.place_of.get(gpu)
        if place is None:
            raise PlacementError(f"GPU {gpu!r} is not in the cluster")
        return place

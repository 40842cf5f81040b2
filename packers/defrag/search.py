"""Which moves make GPUs fuller and others emptier: local search on the sum of squared fill levels.

The order of a cluster is measured by sum(used² / memory), in bytes, and counted in units of the largest GPU: were every
GPU either full or empty, that would be the number of full ones, and every byte that is spread out takes away from it.
A replica of s bytes that leaves a GPU with a used bytes for one with b of the same memory m gains
2 s (s + b - a) / m: it pays to go where it is fuller, the more the larger it is. No size classes, nothing to tune.

Each round takes the best of
1. one replica that moves to where there is room for it now;
2. two: the first makes room on its GPU, the second moves there. They share their gain;
until the budget is used or nothing pays. A substitute starts before the old one leaves, so a move's target has to have
room at its turn with the source still holding the old one. GPUs that nothing uses are not opened.

Replicas that span GPUs are left alone here: they move only when a drain asks for it. In large clusters the replicas of
the emptiest GPUs are looked at, and the fullest GPUs that have room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.defrag.board import Board, Bools, Floats, Ints, may_move
from packers.defrag.moves import Budget, Move, Way, moved_bytes
from packers.explain import size
from packers.types import Replica, ReplicaId

MOST_ITEMS = 512
MOST_TARGETS = 1024
NEVER = -np.inf


@dataclass(frozen=True, slots=True)
class Pick:
    """One move, or two of which the first makes room for the second. ``net_gpu_s``: gain less cost, for each move."""

    steps: tuple[tuple[int, int], ...]  # (item, row of the target)
    net_gpu_s: float


class Items:
    """The replicas that may move, as columns. They are in the order of their GPUs' levels, then of ids."""

    def __init__(self, board: Board, budget: Budget) -> None:
        self.replicas = _candidates(board, budget)
        self.bytes: Ints = np.array([one.footprint.gpu_bytes for one in self.replicas], np.int64)
        self.moved: Ints = np.array([moved_bytes(one) for one in self.replicas], np.int64)
        self.milli: Ints = np.array([one.footprint.compute_milli for one in self.replicas], np.int64)
        self.cpu: Ints = np.array([one.footprint.cpu_milli for one in self.replicas], np.int64)
        self.source: Ints = np.array([board.row[one.gpu] for one in self.replicas], np.int64)
        self.start_s: Floats = np.array([board.models[one.model].startup.disk_s for one in self.replicas], np.float64)
        self.cost_gpu_s: Floats = self.start_s * self.bytes / np.maximum(1, board.memory[self.source])
        self.left: Bools = np.zeros(len(self.replicas), np.bool_)  # moved by this plan
        self.limited = [not board.limits(board.models[one.model]).none for one in self.replicas]


def consolidate(board: Board, budget: Budget, moves_left: int, bytes_left: int | None) -> list[Move]:
    """The moves in the order in which they have to be made; the board shows the world after them."""
    items = Items(board, budget)
    found: list[Move] = []
    while len(found) < moves_left and len(items.replicas):
        pick = _best(board, items, budget, moves_left - len(found), bytes_left)
        if pick is None:
            break
        first: tuple[ReplicaId, ...] = ()
        gain_gpus = _total_gain(board, items, pick)
        for item, row in pick.steps:
            move = _move(
                board, items, item, row, gain_gpus / len(pick.steps), (*first, *_makes_room(found, board, row))
            )
            found.append(move)
            first = (move.replica,)
            bytes_left = None if bytes_left is None else bytes_left - move.moved_bytes
            footprint = items.replicas[item].footprint
            board.enter(move.model, footprint, [row])
            board.leave(footprint, [int(items.source[item])])
            items.left[item] = True
    return found


def _candidates(board: Board, budget: Budget) -> list[Replica]:
    used = board.used
    level = used / np.maximum(1, board.memory)
    found: list[Replica] = []
    for row in np.argsort(level, kind="stable"):
        if used[row] and len(found) < MOST_ITEMS:
            there = board.on(board.gpus[row].id)
            found += [one for one in there if not one.peers and _may_move(one, board, budget)]
    return found[:MOST_ITEMS]


def _may_move(replica: Replica, board: Board, budget: Budget) -> bool:
    return replica.id not in budget.stay and may_move(replica, board, budget.settle_s, budget.busy)


def _best(board: Board, items: Items, budget: Budget, moves: int, bytes_left: int | None) -> Pick | None:
    targets = _targets(board, items)
    allowed = _allowed(board, items, targets, bytes_left)
    unit = float(board.memory.max())
    used = board.used.astype(np.float64)
    sizes = items.bytes.astype(np.float64)
    arrive = (2 * used[targets][None, :] + sizes[:, None]) * sizes[:, None] / board.memory[targets][None, :]
    fits = allowed & _room(board, items, targets)
    gain = np.where(fits, arrive, NEVER)
    column = gain.argmax(axis=1) if len(targets) else np.zeros(len(sizes), np.int64)
    every = np.arange(len(sizes))
    if not len(targets) or not fits.any():
        return None
    goes = targets[column]
    depart = (2 * used[items.source] - sizes) * sizes / board.memory[items.source]
    some = fits[every, column]
    moved_gpus = (np.where(some, gain[every, column], 0.0) - depart) / unit
    net = np.where(some, moved_gpus * budget.payback_s - items.cost_gpu_s, NEVER)
    best = int(net.argmax())
    pick = Pick(((best, int(goes[best])),), float(net[best])) if net[best] > 0 else None
    pair = _best_pair(board, items, allowed, targets, goes, net, depart, budget, bytes_left) if moves > 1 else None
    if pair is not None and (pick is None or pair.net_gpu_s > pick.net_gpu_s * (1 + 1e-9)):
        return pair
    return pick


def _best_pair(
    board: Board,
    items: Items,
    allowed: Bools,
    targets: Ints,
    goes: Ints,
    net: Floats,
    depart: Floats,
    budget: Budget,
    bytes_left: int | None,
) -> Pick | None:
    """Rows: the second mover. Columns: the first, which goes where it gains most, and whose GPU the second takes."""
    to = items.source
    unit = float(board.memory.max())
    sizes = items.bytes.astype(np.float64)
    place = np.full(len(board.gpus), -1, np.int64)
    place[targets] = np.arange(len(targets))
    inside = place[to]
    fits = (inside >= 0)[None, :] & np.isfinite(net)[None, :] & allowed[:, np.maximum(inside, 0)]
    fits &= (board.free[to] + items.bytes)[None, :] >= items.bytes[:, None]
    fits &= (board.milli[to] + items.milli)[None, :] >= items.milli[:, None]
    fits &= (board.cpu[board.node[to]] + items.cpu)[None, :] >= items.cpu[:, None]
    fits &= items.source[:, None] != to[None, :]
    if bytes_left is not None:
        fits &= items.moved[:, None] + items.moved[None, :] <= bytes_left
    if not fits.any():
        return None
    used = board.used.astype(np.float64)
    arrive = (2 * (used[to] - sizes)[None, :] + sizes[:, None]) * sizes[:, None] / board.memory[to][None, :]
    # The first may go where the second leaves: then that one leaves a fuller GPU than was thought.
    crowded = np.where(goes[None, :] == items.source[:, None], 2 * sizes[:, None] * sizes[None, :], 0.0)
    second = arrive - depart[:, None] - crowded / board.memory[items.source][:, None]
    total = np.where(fits, net[None, :] + second / unit * budget.payback_s - items.cost_gpu_s[:, None], NEVER)
    second_item, first_item = np.unravel_index(int(total.argmax()), total.shape)
    if total[second_item, first_item] <= 0:
        return None
    steps = ((int(first_item), int(goes[first_item])), (int(second_item), int(to[first_item])))
    return Pick(steps, float(total[second_item, first_item]) / 2)


def _targets(board: Board, items: Items) -> Ints:
    used = board.used
    least = items.bytes[~items.left].min(initial=np.iinfo(np.int64).max)
    # A full GPU becomes a target when something leaves it.
    may: Bools = board.open & (used > 0)
    rows: Ints = np.flatnonzero(may).astype(np.int64)
    if len(rows) <= MOST_TARGETS:
        return rows
    with_room = rows[board.free[rows] >= least]
    order = np.argsort(-used[with_room] / board.memory[with_room], kind="stable")
    return np.sort(with_room[order[:MOST_TARGETS]])


def _allowed(board: Board, items: Items, targets: Ints, bytes_left: int | None) -> Bools:
    """Whatever is free: who may go where at all."""
    allowed: Bools = np.ones((len(items.replicas), len(targets)), np.bool_)
    for item, limited in enumerate(items.limited):
        if limited:
            allowed[item] = board.allowed(board.models[items.replicas[item].model])[targets]
    allowed &= ~items.left[:, None]
    allowed &= targets[None, :] != items.source[:, None]
    if bytes_left is not None:
        allowed &= (items.moved <= bytes_left)[:, None]
    return allowed


def _room(board: Board, items: Items, targets: Ints) -> Bools:
    room: Bools = board.free[targets][None, :] >= items.bytes[:, None]
    if items.milli.any():
        room &= board.milli[targets][None, :] >= items.milli[:, None]
    if items.cpu.any():
        room &= board.cpu[board.node[targets]][None, :] >= items.cpu[:, None]
    return room


def _total_gain(board: Board, items: Items, pick: Pick) -> float:
    """GPUs: by how much the steps together raise the order of the cluster."""
    used = board.used.astype(np.float64)
    before = after = 0.0
    rows = {int(items.source[item]) for item, _ in pick.steps} | {row for _, row in pick.steps}
    memory = board.memory.astype(np.float64)
    before = sum(used[row] ** 2 / memory[row] for row in sorted(rows))
    for item, row in pick.steps:
        used[row] += items.bytes[item]
        used[items.source[item]] -= items.bytes[item]
    after = sum(used[row] ** 2 / memory[row] for row in sorted(rows))
    return float((after - before) / memory.max())


def _makes_room(found: list[Move], board: Board, row: int) -> tuple[ReplicaId, ...]:
    """Earlier moves of the plan away from the target: it may be their room that is used."""
    gpu = board.gpus[row].id
    return tuple(move.replica for move in found if move.source[0] == gpu)


def _move(board: Board, items: Items, item: int, row: int, gain_gpus: float, after: tuple[ReplicaId, ...]) -> Move:
    replica, source = items.replicas[item], board.gpus[items.source[item]]
    gpu = board.gpus[row]
    level = (board.used[row] + items.bytes[item]) / gpu.memory_bytes
    reason = (
        f"{replica.model} ({size(replica.footprint.gpu_bytes)}) moves from {source.id} to {gpu.id}, which is then "
        f"{level:.0%} full: {gain_gpus:.2f} GPU gained for {items.cost_gpu_s[item]:.1f} GPU-seconds."
    )
    return Move(
        replica.id,
        replica.model,
        (source.id,),
        (gpu.id,),
        replica.footprint,
        Way.OVERLAP,
        int(items.moved[item]),
        float(items.start_s[item]),
        0.0,
        gain_gpus,
        float(items.cost_gpu_s[item]),
        reason,
        tuple(dict.fromkeys(after)),
    )

"""Empty a GPU or a node: for an operator who has cordoned it, to scale in, or because a spot GPU is taken away.

1. What is on its way out already, or has a substitute coming, is waited for. A starting replica has to arrive first.
2. A pinned one stays, and the place with it, unless the place is taken away anyway (``deadline_s``): then it moves.
3. A sleeping one is stopped: asleep it would stay on the GPU. So is an idle one of a model that is in no catalog.
4. The others move, each with a substitute that serves before it leaves; a busy one then finishes its requests. Replicas
   that are wanted get room first: busy ones, those of models with demand, those that ``min_replicas`` asks for.
5. A group that overlaps with where it could go may have to leave first (``Way.GAP``): only when idle, or the place is
   taken away anyway.
6. No room for one that is wanted: an idle, unpinned replica elsewhere makes room by moving itself, if one can.
7. No room for an idle one that nobody wants: it is stopped. No room for a wanted one: it stays, with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from packers.defrag.assign import Piece, assign, sites
from packers.defrag.board import Board, may_move
from packers.defrag.moves import UNAVAILABLE_WEIGHT, Move, Way, moved_bytes
from packers.explain import size, span
from packers.ledger import UnknownGpu, UnknownNode, leaving
from packers.state import State
from packers.types import Action, GpuId, NodeId, Replica, ReplicaId, ReplicaState, Stop


@dataclass(frozen=True, slots=True)
class Stay:
    """What keeps the place from becoming empty, for now or for good."""

    replica: ReplicaId
    why: str


@dataclass(frozen=True, slots=True)
class Drain:
    """``steps`` in the order in which they have to be made; no prefix of them goes over capacity.

    ``waits``: what leaves already. ``stays``: what does not leave by this plan.
    """

    steps: tuple[Move | Stop, ...]
    waits: tuple[ReplicaId, ...]
    stays: tuple[Stay, ...]

    @property
    def empties(self) -> bool:
        return not self.stays

    @property
    def unavailable_s(self) -> float:
        return sum(step.unavailable_s for step in self.steps if isinstance(step, Move))

    @property
    def moved_bytes(self) -> int:
        return sum(step.moved_bytes for step in self.steps if isinstance(step, Move))

    def actions(self) -> tuple[Action, ...]:
        """What can be ordered now. The rest follows when these are done and the drain is planned anew."""
        found: list[Action] = []
        for step in self.steps:
            if isinstance(step, Stop):
                found.append(step)
            elif not step.after:
                found.append(step.start if step.way is Way.OVERLAP else step.stop)
        return tuple(found)


def free_gpu(
    state: State, now_s: float, gpu: GpuId, deadline_s: float | None = None, touched: Collection[ReplicaId] = ()
) -> Drain:
    """How to empty the GPU. ``deadline_s``: seconds until it is taken away; None for at leisure. Raises UnknownGpu."""
    if gpu not in state.gpus:
        raise UnknownGpu(gpu)
    return _Planner(Board(state, now_s, touched), (gpu,), deadline_s).plan()


def free_node(
    state: State, now_s: float, node: NodeId, deadline_s: float | None = None, touched: Collection[ReplicaId] = ()
) -> Drain:
    """How to empty all GPUs of the node and its host RAM. Raises UnknownNode."""
    if node not in state.nodes:
        raise UnknownNode(node)
    gpus = tuple(gpu.id for gpu in state.index.order if gpu.node == node)
    return _Planner(Board(state, now_s, touched), gpus, deadline_s).plan()


class _Planner:
    def __init__(self, board: Board, gpus: tuple[GpuId, ...], deadline_s: float | None) -> None:
        self.board, self.gpus, self.deadline_s = board, gpus, deadline_s
        self.closed = [board.row[gpu] for gpu in gpus]
        board.open[self.closed] = False
        self.moves: list[Move] = []
        self.stops: list[Stop] = []
        self.waits: list[ReplicaId] = []
        self.stays: list[Stay] = []

    def plan(self) -> Drain:
        pieces = list(self._pieces())
        placed = assign(pieces, self.board)
        for piece in sorted(pieces, key=lambda piece: piece.order):
            site = placed.get(piece.replica.id)
            if site is not None:
                self._move(piece, site)
        for piece in sorted(pieces, key=lambda piece: piece.order):
            if piece.replica.id not in placed and not (self._gap(piece) or (piece.must and self._eject(piece))):
                self._end(piece)
        stays = tuple(sorted(self.stays, key=lambda one: one.replica))
        return Drain((*self.moves, *self.stops), tuple(sorted(self.waits)), stays)

    def _pieces(self) -> Iterator[Piece]:
        board = self.board
        found = {one.id: one for gpu in self.gpus for one in board.on(gpu)}
        ready_left: dict[str, int] = {}
        for name in sorted(found):
            one = found[name]
            model = board.models.get(one.model)
            # 1.
            if board.in_change(one):
                self.waits.append(one.id)
            elif one.state is ReplicaState.STARTING:
                self.stays.append(Stay(one.id, "it is starting; it leaves once it serves"))
            # 2.
            elif board.pinned(one) and self.deadline_s is None:
                self.stays.append(Stay(one.id, "it is pinned"))
            # 3.
            elif one.state is ReplicaState.ASLEEP:
                self._stop(one, "asleep it would stay there; its next start is from disk")
            elif model is None and one.in_flight:
                self.stays.append(Stay(one.id, "it is busy, and its model is in no catalog"))
            elif model is None:
                self._stop(one, "its model is in no catalog")
            else:
                # 4.
                left = ready_left.setdefault(model.id, self._ready(one) - model.min_replicas)
                ready_left[model.id] = left - 1
                wanted = one.in_flight > 0 or model.demand.present or left <= 0 or board.pinned(one)
                yield Piece(one, model, wanted)

    def _ready(self, replica: Replica) -> int:
        """Replicas of its model that serve and stay."""
        mine = self.board.index.of_model.get(replica.model, {}).values()
        return sum(one.state is ReplicaState.READY and not leaving(one) for one in mine)

    def _move(self, piece: Piece, site: list[int], way: Way = Way.OVERLAP) -> None:
        """Of a gap the board shows already that the old one is gone."""
        board, replica = self.board, piece.replica
        gpus = {board.gpus[row].id for row in site}
        after = tuple(move.replica for move in self.moves if not gpus.isdisjoint(move.source))
        self.moves.append(_describe(piece, site, board, way, self._gap_s(piece, way), after))
        board.enter(piece.model.id, replica.footprint, site)
        if way is Way.OVERLAP:
            board.leave(replica.footprint, board.rows(replica))

    def _gap_s(self, piece: Piece, way: Way) -> float:
        """Seconds without any replica of the model that serves."""
        if self._ready(piece.replica) > 1:
            return 0.0
        start_s = piece.model.startup.disk_s
        if way is Way.GAP:
            return start_s
        return 0.0 if self.deadline_s is None else max(0.0, start_s - self.deadline_s)

    def _gap(self, piece: Piece) -> bool:
        # 5.
        replica, board = piece.replica, self.board
        if not replica.peers or (replica.in_flight and self.deadline_s is None):
            return False
        rows = board.rows(replica)
        board.leave(replica.footprint, rows)
        found = sites(piece, board)
        if not found:
            board.hold(replica.footprint, rows)
            return False
        self._move(piece, found[0], Way.GAP)
        return True

    def _eject(self, piece: Piece) -> bool:
        """6. The cheapest single move elsewhere that makes room."""
        if piece.replica.peers:
            return False
        for other, row in self._in_the_way(piece):
            mover = Piece(other, self.board.models[other.model], must=True)
            for target in sites(mover, self.board):
                if target != [row] and self._makes_room(piece, mover, target, row):
                    self._move(mover, target)
                    self._move(piece, [row])
                    return True
        return False

    def _in_the_way(self, piece: Piece) -> list[tuple[Replica, int]]:
        """Those that may move, with their rows, where the piece would be allowed. The least to load first."""
        board = self.board
        gone = {move.replica for move in self.moves}
        found = []
        for row in np.flatnonzero(board.allowed(piece.model) & ~board.room(piece.replica.footprint, 1)):
            for other in board.on(board.gpus[row].id):
                if not other.peers and other.id not in gone and may_move(other, board, 0.0):
                    found.append((other, int(row)))
        return sorted(found, key=lambda one: (moved_bytes(one[0]), one[0].id))

    def _makes_room(self, piece: Piece, mover: Piece, target: list[int], row: int) -> bool:
        board = self.board
        board.enter(mover.model.id, mover.replica.footprint, target)
        board.leave(mover.replica.footprint, [row])
        fits = bool((board.room(piece.replica.footprint, 1) & board.allowed(piece.model))[row])
        board.hold(mover.replica.footprint, [row])
        board.take_back(mover.model.id, mover.replica.footprint, target)
        return fits

    def _end(self, piece: Piece) -> None:
        # 7.
        replica = piece.replica
        if not piece.must:
            start = span(piece.model.startup.disk_s)
            self._stop(replica, f"nobody asks for it and no other GPU has room; its next start takes {start}")
            return
        needs = size(replica.footprint.gpu_bytes)
        on = f"{len(replica.gpus)} GPUs of one node" if replica.peers else "another GPU"
        self.stays.append(Stay(replica.id, f"it is wanted, and {on} would need {needs} free"))

    def _stop(self, replica: Replica, why: str) -> None:
        reason = f"{replica.model} leaves {replica.gpu}, which is to be empty: {why}."
        self.stops.append(Stop(replica.id, replica.model, replica.gpu, reason))


def _describe(
    piece: Piece, site: list[int], board: Board, way: Way, gap_s: float, after: tuple[ReplicaId, ...]
) -> Move:
    replica, model = piece.replica, piece.model
    target = tuple(board.gpus[row].id for row in site)
    source = replica.gpus
    start_s = model.startup.disk_s
    shares = [replica.footprint.gpu_bytes / max(1, board.gpus[row].memory_bytes) for row in site]
    freed = [replica.footprint.gpu_bytes / max(1, int(board.memory[board.row[gpu]])) for gpu in source]
    held_gpu_s = start_s * sum(shares) if way is Way.OVERLAP else 0.0
    reason = f"{model.id} moves from {', '.join(source)} to {', '.join(target)}, to empty where it was"
    reason += f"; it is away for {span(gap_s)}." if gap_s else "."
    return Move(
        replica=replica.id,
        model=model.id,
        source=source,
        target=target,
        footprint=replica.footprint,
        way=way,
        moved_bytes=moved_bytes(replica),
        start_s=start_s,
        unavailable_s=gap_s,
        gain_gpus=sum(freed),
        cost_gpu_s=held_gpu_s + gap_s * UNAVAILABLE_WEIGHT,
        reason=reason,
        after=after,
    )

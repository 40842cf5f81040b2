"""A defragmentation as an operator sees it beforehand: its moves, what it is good for, and what cannot move and why.

What stays, in the order in which the reasons count:
1. what is on its way already: starting, or moving, or taking another's place;
2. what is pinned, sleeps, spans several GPUs, is on one that is closed, or of a model that is in no catalog;
3. what is busy, or was started so lately that it stays for now, where the budget says so;
4. what has room nowhere else; and what has, but would gain less than it costs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from packers.defrag.assign import Piece, sites
from packers.defrag.board import Board
from packers.defrag.drain import Stay
from packers.defrag.moves import Budget, Move
from packers.defrag.search import consolidate
from packers.explain import count, size, span
from packers.ledger import leaving
from packers.state import State
from packers.types import Replica, ReplicaId, ReplicaState
from packers.withheld import Withheld


@dataclass(frozen=True, slots=True)
class Order:
    """How things stand on the GPUs that may be used. ``largest_free_bytes``: on one GPU, what could still go there."""

    gpus: int
    empty_gpus: int
    free_bytes: int
    largest_free_bytes: int


@dataclass(frozen=True, slots=True)
class Survey:
    """``moves`` in the order in which they have to be made; ``after``: once they are. Nothing has been changed."""

    moves: tuple[Move, ...]
    before: Order
    after: Order
    stays: tuple[Stay, ...]

    @property
    def gain_gpus(self) -> float:
        return sum(move.gain_gpus for move in self.moves)

    @property
    def cost_gpu_s(self) -> float:
        return sum(move.cost_gpu_s for move in self.moves)

    @property
    def moved_bytes(self) -> int:
        return sum(move.moved_bytes for move in self.moves)


def survey(state: State, now_s: float, budget: Budget, touched: Collection[ReplicaId] = ()) -> Survey:
    """What ``budget.moves`` moves would do, beside those that are under way. Memory that is guaranteed to others counts
    as taken. Pure: the State stays as it is."""
    state.settle()
    withheld = Withheld(state)
    withheld.keep_from(None)
    try:
        return _survey(Board(state, now_s, touched), state, budget)
    finally:
        withheld.undo()


def _survey(board: Board, state: State, budget: Budget) -> Survey:
    before = _order(board)
    found: tuple[Move, ...] = ()
    if state.gpus and budget.moves > 0:
        found = tuple(consolidate(board, budget, budget.moves, budget.moved_bytes))
    moved = {move.replica for move in found}
    stays = tuple(_stays(board, budget, moved))
    return Survey(found, before, _order(board), stays)


def _order(board: Board) -> Order:
    free = board.free[board.open]
    empty = int(((board.used == 0) & board.open).sum())
    return Order(len(free), empty, int(free.sum()), int(free.max(initial=0)))


def _stays(board: Board, budget: Budget, moved: set[ReplicaId]) -> Iterator[Stay]:
    """By id. The board shows the world after the moves."""
    for name in sorted(board.state.replicas):
        one = board.state.replicas[name]
        if one.state is not ReplicaState.DEAD and not leaving(one) and name not in moved:
            yield Stay(name, _on_its_way(one, board) or _bound(one, board) or _for_now(one, board, budget))


def _on_its_way(one: Replica, board: Board) -> str:
    # 1.
    if board.in_change(one):
        return "it is on the move already"
    if board.substitute(one):
        return f"it takes the place of {one.replaces}"
    return "it is starting" if one.state is ReplicaState.STARTING else ""


def _bound(one: Replica, board: Board) -> str:
    # 2.
    if board.pinned(one):
        return "it is pinned"
    if one.state is ReplicaState.ASLEEP:
        return "it sleeps; its next start may go elsewhere"
    if closed := board.state.gpus[one.gpu].closed:
        return f"{one.gpu} is closed: {closed}"
    if one.peers:
        return "it spans several GPUs: only a drain of one of them moves it"
    return "its model is in no catalog" if one.model not in board.models else ""


def _for_now(one: Replica, board: Board, budget: Budget) -> str:
    # 3.
    since_s = board.now_s - one.state_since_s
    if one.id in budget.stay:
        return "its move has failed before"
    if one.in_flight and not budget.busy:
        return f"it is busy: {count(one.in_flight, 'request')} in flight"
    if since_s < budget.settle_s:
        return f"it is there for {span(since_s)} only, and stays for {span(budget.settle_s)}"
    # 4.
    here = set(board.rows(one))
    piece = Piece(one, board.models[one.model], must=True)
    elsewhere = [rows for rows in sites(piece, board) if here.isdisjoint(rows) and board.used[rows].all()]
    if not elsewhere:
        return f"no other GPU in use has {size(one.footprint.gpu_bytes)} free for it"
    return "moving it would gain less than it costs"

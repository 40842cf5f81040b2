"""Defragmentation policies by name, and what is left to do for moves that are under way.

How a move goes: ``Move.start`` starts a substitute that ``replaces`` the old replica; once it serves, the old one is
stopped (``packers.decide``, rule 4), which lets it finish its requests. Nothing is kept in between: the State shows
what is under way, and a substitute that dies leaves the old one where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from packers.defrag.board import Board
from packers.defrag.moves import Budget, Move, moved_bytes
from packers.defrag.search import consolidate
from packers.state import State
from packers.types import Replica, ReplicaId, ReplicaState

DefragPolicy = Callable[[State, float, Budget, Collection[ReplicaId]], tuple[Move, ...]]


def none(state: State, now_s: float, budget: Budget, touched: Collection[ReplicaId] = ()) -> tuple[Move, ...]:
    """Everything stays where it is."""
    return ()


def moves(state: State, now_s: float, budget: Budget, touched: Collection[ReplicaId] = ()) -> tuple[Move, ...]:
    """The moves that pay, the best first, with what is under way at most as much as the budget allows.

    ``touched``: replicas that stay out of it, because the caller does something else with them. No pinned, starting or
    leaving one is among the moved, and no busy one unless the budget says so. Applied in order, each with its
    substitute ready before the old one leaves, nothing goes over capacity. Pure: the State stays as it is.
    """
    under_way = under_way_now(state)
    moves_left = budget.moves - len(under_way)
    bytes_left = None
    if budget.moved_bytes is not None:
        bytes_left = budget.moved_bytes - sum(moved_bytes(one) for one in under_way)
    if moves_left <= 0 or (bytes_left is not None and bytes_left <= 0) or not state.gpus:
        return ()
    return tuple(consolidate(Board(state, now_s, touched), budget, moves_left, bytes_left))


DEFRAG: dict[str, DefragPolicy] = {"none": none, "ours": moves}


def under_way_now(state: State) -> list[Replica]:
    """Substitutes of replicas that are still there."""
    state.settle()
    there = state.replicas
    return [
        one
        for one in state.index.substitutes.values()
        if one.replaces in there and there[one.replaces].state is not ReplicaState.DEAD
    ]

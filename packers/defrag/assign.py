"""Where the replicas of a place that is to be emptied can go: exact for a few of them, best-fit decreasing for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from packers.defrag.board import Board
from packers.types import Model, Replica, ReplicaId

EXACT_PIECES = 24
MOST_TRIES = 4000
MOST_SITES = 32  # the tightest, of every one that there is


@dataclass(frozen=True, slots=True)
class Piece:
    """``must``: its model is wanted now. The others would rather stay up, too, but may end."""

    replica: Replica
    model: Model
    must: bool

    @property
    def order(self) -> tuple[bool, int, str]:
        footprint, gpus = self.replica.footprint, len(self.replica.gpus)
        return not self.must, -footprint.gpu_bytes * gpus, self.replica.id


Sites = dict[ReplicaId, list[int]]  # rows of the board; the first one is the group's first GPU


def assign(pieces: Sequence[Piece], board: Board) -> Sites:
    """A site for as many as possible, those that must have one first. The board is left as it was."""
    ordered = sorted(pieces, key=lambda piece: piece.order)
    if len(ordered) > EXACT_PIECES:
        return _greedy(ordered, board)
    search = _Search(ordered, board)
    search.go(0, (0, 0), {})
    return search.best


def sites(piece: Piece, board: Board) -> list[list[int]]:
    """Where it fits as things are on the board, the tightest first; of GPUs that are alike only one."""
    footprint, gpus = piece.replica.footprint, len(piece.replica.gpus)
    rows = np.flatnonzero(board.room(footprint, gpus) & board.allowed(piece.model))
    ordered = rows[np.argsort(board.free[rows], kind="stable")]
    found: dict[tuple[int, ...], list[int]] = {}
    if gpus == 1:
        for row in ordered:
            alike = (int(board.free[row]), int(board.milli[row]), int(board.node[row]))
            found.setdefault(alike, [int(row)])
            if len(found) == MOST_SITES:
                break
        return list(found.values())
    of_node: dict[int, list[int]] = {}
    for row in ordered:
        of_node.setdefault(int(board.node[row]), []).append(int(row))
    groups = [there[:gpus] for there in of_node.values() if len(there) >= gpus]
    groups.sort(key=lambda there: (int(board.free[there].sum()), there))
    return [sorted(there) for there in groups[:MOST_SITES]]


def _greedy(ordered: Sequence[Piece], board: Board) -> Sites:
    found: Sites = {}
    for piece in ordered:
        there = sites(piece, board)
        if there:
            found[piece.replica.id] = there[0]
            board.enter(piece.model.id, piece.replica.footprint, there[0])
    for piece in ordered:
        if piece.replica.id in found:
            board.take_back(piece.model.id, piece.replica.footprint, found[piece.replica.id])
    return found


class _Search:
    """Depth first: each piece on each of its sites, or on none. Cut off where what is left cannot beat the best."""

    def __init__(self, ordered: Sequence[Piece], board: Board) -> None:
        self.ordered, self.board = ordered, board
        self.best: Sites = {}
        self._best_value = (-1, -1)
        self._tries = 0
        self._musts_left = [sum(one.must for one in ordered[place:]) for place in range(len(ordered) + 1)]

    def go(self, place: int, value: tuple[int, int], found: Sites) -> None:
        if value > self._best_value:
            self._best_value, self.best = value, dict(found)
        if place == len(self.ordered) or self._tries >= MOST_TRIES or not self._may_win(place, value):
            return
        piece = self.ordered[place]
        footprint, name = piece.replica.footprint, piece.replica.id
        for site in sites(piece, self.board):
            self._tries += 1
            found[name] = site
            self.board.enter(piece.model.id, footprint, site)
            self.go(place + 1, (value[0] + piece.must, value[1] + (not piece.must)), found)
            self.board.take_back(piece.model.id, footprint, site)
            del found[name]
        self.go(place + 1, value, found)

    def _may_win(self, place: int, value: tuple[int, int]) -> bool:
        musts = self._musts_left[place]
        others = len(self.ordered) - place - musts
        return (value[0] + musts, value[1] + others) > self._best_value

"""Asks a policy where things go, and remembers its scores: only what has changed is scored again.

For every class of asks it keeps each node's best score. A decision rescores the nodes that were touched since that
class was asked for last, then takes the smallest score. The answer is the one that scoring all afresh would give.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from packers.placement.ask import ANYWHERE, Ask, NoSpot, Spot, Where
from packers.placement.cluster import Bools, Cluster, Floats, Ints
from packers.placement.mix import Mix
from packers.placement.rejections import no_spot, shown
from packers.placement.rule import Rule, candidates_of, memory_scale, states_of
from packers.placement.targets import Targets
from packers.types import NodeId

CLASSES_KEPT = 1024  # classes of asks whose scores are kept; the one that was not asked for longest goes first
GRID = 2.0**30  # scores are rounded to this part of their unit: noise of the last digit must not part equal ones

Ties = Callable[[Ints], int]  # from the rows of equal score, the one to take


def first(rows: Ints) -> int:
    return int(rows[0])


@dataclass(slots=True)
class _Shelf:
    """Of one class: each node's best score (infinite: no room) and, for one GPU, which it is."""

    score: Floats
    column: Ints
    revision: int
    version: int


class Placer:
    """One policy on one cluster. ``mix`` is only read: whoever sees the asks come tells it, before they are placed.

    A policy that wants a mix has no preference among nodes as long as the mix is empty.
    """

    def __init__(self, cluster: Cluster, rule: Rule, mix: Mix | None = None, ties: Ties = first) -> None:
        self.cluster = cluster
        self.rule = rule
        self.mix = mix if mix is not None else Mix()
        self._ties = ties
        self._scale = memory_scale(cluster)
        self._shelves: OrderedDict[Ask, _Shelf] = OrderedDict()
        self._targets: Targets | None = None
        self._worth: Floats = np.zeros(len(cluster))
        self._worth_revision = -1
        self._version = -1

    def place(self, ask: Ask, where: Where = ANYWHERE, explain: bool = False) -> Spot | NoSpot:
        """Where the policy puts ``ask`` now. Takes nothing: ``cluster.take`` does."""
        shelf = self._shelf(ask)
        allowed = self._allowed(where)
        score = shelf.score if allowed is None else np.where(allowed, shelf.score, np.inf)
        score = self._preferred(score, where)
        best = float(score.min(initial=np.inf))
        if best == np.inf:
            return no_spot(self.cluster, ask, self._scale, allowed, explain)
        row = self._ties(np.flatnonzero(score == best)) if self._ties is not first else int(score.argmin())
        gpus = tuple(self.cluster.gpu_at(row, column).id for column in self._columns(ask, shelf, row))
        candidates = shown(self.cluster, ask, self._scale, score, shelf.column, allowed) if explain else ()
        return Spot(self.cluster.nodes[row].id, gpus, best, candidates)

    def scores(self, ask: Ask) -> Floats:
        """Each node's score for it, in order of node id; infinite where it has no room."""
        return self._shelf(ask).score.copy()

    # Scores, kept fresh

    def _shelf(self, ask: Ask) -> _Shelf:
        self._refresh_targets()
        cluster = self.cluster
        shelf = self._shelves.get(ask)
        if shelf is None:
            rows = len(cluster)
            shelf = _Shelf(np.full(rows, np.inf), np.zeros(rows, np.int64), -1, self._version)
            self._shelves[ask] = shelf
            if len(self._shelves) > CLASSES_KEPT:
                self._shelves.popitem(last=False)
        else:
            self._shelves.move_to_end(ask)
        if shelf.version != self._version:
            shelf.revision, shelf.version = -1, self._version
        if shelf.revision != cluster.revision:
            self._rescore(ask, shelf, np.flatnonzero(cluster.touched > shelf.revision))
            shelf.revision = cluster.revision
        return shelf

    def _refresh_targets(self) -> None:
        if self._version != self.mix.version:
            self._targets = self.rule.targets(self.cluster, self.mix.shares)
            self._version, self._worth_revision = self.mix.version, -1
        if self._targets is not None and self._worth_revision != self.cluster.revision:
            rows = np.flatnonzero(self.cluster.touched > self._worth_revision)
            states = states_of(self.cluster, rows, self._scale)
            self._worth[rows] = self.rule.worth(states, self._targets)
            self._worth_revision = self.cluster.revision

    def _rescore(self, ask: Ask, shelf: _Shelf, rows: Ints) -> None:
        found = candidates_of(self.cluster, ask, rows, self._scale)
        shelf.score[rows] = np.inf
        if not len(found.rows):
            return
        before = self._worth[found.rows] if self._targets is not None else None
        score = np.rint(self.rule.score(found, self._targets, before) * GRID) / GRID
        if ask.gpus != 1:
            shelf.score[found.rows] = score
            return
        # The candidates of a node follow each other: its best is the first of the smallest of its run.
        starts = _starts(found.rows)
        number = starts.cumsum() - 1
        hits = np.flatnonzero(score == np.minimum.reduceat(score, np.flatnonzero(starts))[number])
        chosen = hits[_starts(found.rows[hits])]
        shelf.score[found.rows[chosen]] = score[chosen]
        shelf.column[found.rows[chosen]] = found.columns[chosen, 0]

    # The choice

    def _allowed(self, where: Where) -> Bools | None:
        if not where.excluded:
            return None
        allowed: Bools = np.ones(len(self.cluster), np.bool_)
        allowed[self._rows(where.excluded)] = False
        return allowed

    def _preferred(self, score: Floats, where: Where) -> Floats:
        """Affine nodes if any has room; of those, the ones of the cheapest pool."""
        if where.affine:
            rows = self._rows(where.affine)
            wanted = np.full(len(score), np.inf)
            wanted[rows] = score[rows]
            if wanted.min(initial=np.inf) < np.inf:
                score = wanted
        if self.cluster.ranks > 1:
            rank = np.where(score < np.inf, self.cluster.rank, self.cluster.ranks)
            score = np.where(rank == rank.min(initial=self.cluster.ranks), score, np.inf)
        return score

    def _rows(self, nodes: frozenset[NodeId]) -> list[int]:
        return sorted(row for row in (self.cluster.row_of.get(node) for node in nodes) if row is not None)

    def _columns(self, ask: Ask, shelf: _Shelf, row: int) -> list[int]:
        if ask.gpus == 1:
            return [int(shelf.column[row])]
        found = candidates_of(self.cluster, ask, np.array([row]), self._scale)
        return [int(column) for column in found.columns[0]]


def _starts(rows: Ints) -> Bools:
    """True where a run of equal rows begins."""
    starts: Bools = np.ones(len(rows), np.bool_)
    starts[1:] = rows[1:] != rows[:-1]
    return starts

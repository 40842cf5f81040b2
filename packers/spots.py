"""The placement policies (``packers.placement``) over a State: where there is room at once, and where soon.

Two mirrors follow the State's tallies: one shows what may be used at once, one what will be free. A policy keeps its
scores of each and works out anew only what has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from packers.explain import size
from packers.index import Index
from packers.limits import Limits
from packers.placement import CANDIDATES_SHOWN, RULES, Ask, Cluster, Mix, NoSpot, Placer, Spot, Where
from packers.placement.placer import GRID
from packers.placement.rule import Candidates, Rule, feasible
from packers.types import Candidate, Footprint, Gpu, GpuId, Model, Node, Pool

Free = Callable[[GpuId], int]


def ask_of(model: Model, footprint: Footprint) -> Ask:
    """What a replica of ``model`` needs to start with ``footprint``."""
    gpus = model.tensor_parallel
    return Ask(
        gpus, footprint.gpu_bytes, footprint.compute_milli, footprint.cpu_milli * gpus, gpu_types=model.gpu_types
    )


class Mirror(Cluster):
    """A Cluster that is told what is free instead of counting it."""

    def show_gpu(self, gpu: GpuId, free_bytes: int, free_milli: int) -> None:
        row, column = self._place(gpu)
        if self.free_bytes[row, column] == free_bytes and self.free_milli[row, column] == free_milli:
            return  # it was kept from somebody for a moment
        self.free_bytes[row, column], self.free_milli[row, column] = free_bytes, free_milli
        self._mark_repeated(row)
        self._touched(row)

    def show_node(self, node: Node, free_milli: int) -> None:
        if node.cpu_milli:
            self.free_cpu[self._row(node.id)] = free_milli


class Scorer(Placer):
    """A Placer that tells every GPU's score, for clusters small enough to show them all."""

    def scored(self, ask: Ask) -> list[tuple[float, Gpu]]:
        """Lower is better; only GPUs where it fits."""
        self._refresh_targets()
        every = np.arange(len(self.cluster))
        fits, enough = feasible(self.cluster, ask, every)
        rows, columns = np.nonzero(fits & enough[:, None])
        if not len(rows):
            return []
        before = self._worth[rows] if self._targets is not None else None
        candidates = Candidates(self.cluster, ask, rows, columns[:, None], self._scale)
        scores = self.rule.score(candidates, self._targets, before)
        found = zip(scores.tolist(), rows.tolist(), columns.tolist(), strict=True)
        return sorted(((score, self.cluster.gpu_at(row, column)) for score, row, column in found), key=_by_score)


def _by_score(scored: tuple[float, Gpu]) -> tuple[float, str]:
    return scored[0], scored[1].id


class Spots:
    """Where things go by one policy. Owned by a State; follows its ``Index``."""

    def __init__(self) -> None:
        self._built: tuple[object, ...] = ()
        self._rule: Rule = RULES["best-fit"]
        self._mix = Mix()
        self._now: Scorer | None = None
        self._soon: Scorer | None = None

    def at_once(self) -> Scorer:
        if self._now is None:
            raise RuntimeError("spots are asked for before they were refreshed")
        return self._now

    def soon(self) -> Scorer:
        if self._soon is None:
            raise RuntimeError("spots are asked for before they were refreshed")
        return self._soon

    def refresh(
        self,
        rule: str,
        index: Index,
        pools: Iterable[Pool],
        asks: tuple[int, Callable[[], Iterable[Ask]]],
        touched: set[GpuId],
    ) -> None:
        """``asks``: what the catalog may ask for, and the number of its last change."""
        built = (rule, index.order, index.nodes_version, tuple(pools), asks[0])
        if self._built != built:
            nodes = tuple(index.nodes.values())
            mix = Mix.of(asks[1]())
            self._now = Scorer(Mirror(index.order, nodes, built[3]), RULES[rule], mix)
            self._soon = Scorer(Mirror(index.order, nodes, built[3]), RULES[rule], mix)
            self._built = built
            touched = set(index.gpus)
        for gpu in touched:
            self._show(gpu, index)

    def _show(self, gpu: GpuId, index: Index) -> None:
        now, soon = index.now, index.soon
        node = index.nodes[index.gpus[gpu].node]
        free_bytes, free_milli = min(now.gpu[gpu], soon.gpu[gpu]), min(now.compute[gpu], soon.compute[gpu])
        self._set(self.at_once(), gpu, free_bytes, free_milli, node, min(now.cpu[node.id], soon.cpu[node.id]))
        self._set(self.soon(), gpu, soon.gpu[gpu], soon.compute[gpu], node, soon.cpu[node.id])

    @staticmethod
    def _set(placer: Scorer, gpu: GpuId, free_bytes: int, free_milli: int, node: Node, cpu_milli: int) -> None:
        mirror = placer.cluster
        if isinstance(mirror, Mirror):
            mirror.show_gpu(gpu, free_bytes, free_milli)
            mirror.show_node(node, cpu_milli)


def place(placer: Scorer, ask: Ask, where: Limits) -> Spot | None:
    """Where the policy puts it: on a node that is wanted and not unwanted, if any of those has room."""
    for excluded in (where.excluded | where.unwanted, where.excluded) if where.unwanted else (where.excluded,):
        limited = Where(excluded, where.wanted)
        spot = _avoiding(placer, ask, limited, where.avoided) if where.avoided else placer.place(ask, limited)
        if spot is not None and not isinstance(spot, NoSpot):
            return spot
    return None


def _avoiding(placer: Scorer, ask: Ask, where: Where, avoided: frozenset[GpuId]) -> Spot | NoSpot | None:
    """On none of these GPUs; a group on none of their nodes. It happens after a failed start, so nothing is kept."""
    cluster = placer.cluster
    if ask.gpus != 1:
        nodes = {cluster.nodes[cluster.place_of[gpu][0]].id for gpu in avoided if gpu in cluster.place_of}
        return placer.place(ask, Where(where.excluded | nodes, where.affine))
    scored = [
        (gpu.node not in where.affine, int(cluster.rank[cluster.row_of[gpu.node]]), round(score * GRID), place, gpu)
        for place, (score, gpu) in enumerate(placer.scored(ask))
        if gpu.node not in where.excluded and gpu.id not in avoided
    ]
    if not scored:
        return None
    _, _, score, _, gpu = min(scored)
    return Spot(gpu.node, (gpu.id,), score / GRID)


def candidates(placer: Scorer, ask: Ask, where: Limits, spot: Spot, free: Free) -> tuple[Candidate, ...]:
    """What was looked at: every GPU of a small cluster with its score or why not, of a large one the best nodes."""
    if ask.gpus != 1 or len(placer.cluster.place_of) > 2 * CANDIDATES_SHOWN:
        found = placer.place(ask, Where(where.excluded, where.wanted), explain=True)
        return found.candidates
    barred = where.avoided
    scored = [
        (score, gpu) for score, gpu in placer.scored(ask) if gpu.node not in where.excluded and gpu.id not in barred
    ]
    scored.sort(key=lambda one: (one[1].id not in spot.gpus, one[0], one[1].id))
    shown = [Candidate(gpu.id, free(gpu.id), score=round(score, 3)) for score, gpu in scored]
    fitting = {gpu.id for _, gpu in scored}
    others = [gpu for there in placer.cluster.gpus_of for gpu in there if gpu.id not in fitting]
    others.sort(key=lambda gpu: (-free(gpu.id), gpu.id))
    shown += [Candidate(gpu.id, free(gpu.id), rejected=_why_not(ask, where, gpu, free)) for gpu in others]
    return tuple(shown[:CANDIDATES_SHOWN])


def _why_not(ask: Ask, where: Limits, gpu: Gpu, free: Free) -> str:
    refusal = where.refusal(gpu)
    if refusal is not None:
        return refusal
    if gpu.memory_bytes < ask.gpu_bytes:
        return f"too small: {size(gpu.memory_bytes)}"
    short_bytes = ask.gpu_bytes - free(gpu.id)
    return f"{size(short_bytes)} short" if short_bytes > 0 else "too little compute or CPU free"

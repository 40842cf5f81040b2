"""Whether everything goes on given nodes, which may be of different sizes, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from packers.static.answer import Fit, Spot, Verdict
from packers.static.groups.bounds import gpus_bound, nodes_bound
from packers.static.groups.exact import decide
from packers.static.groups.filling import fill
from packers.static.groups.kinds import Capacity, Held, Kinds, NodeShape
from packers.static.groups.pack import manners
from packers.static.problem import Item, Node, ProblemError, check_fits, ordered
from packers.static.solve import Grouped, group, pack
from packers.types import ModelId


def fit(items: Iterable[Item], nodes: Sequence[Node]) -> Fit:
    """The same for the items in any order. Raises ProblemError for an item that fits on none of the nodes, or none."""
    wanted = ordered(items)
    if not any(nodes):
        raise ProblemError("gpus", "must name at least one GPU")
    check_fits(wanted, nodes)
    if not wanted:
        return Fit(Verdict.FITS, (), (), 0, 0)
    grouped = group(wanted)
    shapes = [tuple((gpu.memory_bytes, gpu.compute_milli) for gpu in node) for node in nodes]
    at_least = gpus_bound(grouped.kinds, _largest(shapes))
    why = _ruled_out(grouped.kinds, shapes)
    if not why and (alike := _as_alike(wanted, nodes)) is not None:
        return Fit(Verdict.FITS, alike, (), _gpus_used(alike), at_least)
    held, left = _best_fill(grouped.kinds, shapes)
    if not why and any(left):
        decided = decide(grouped.kinds, shapes)
        if decided.nodes is not None:
            held, left = decided.nodes, (0,) * len(left)
        elif decided.impossible:
            why = "every way to place them was ruled out"
    spots = grouped.spots(held)
    verdict = Verdict.FITS if not any(left) else Verdict.CANNOT if why else Verdict.NOT_FOUND
    return Fit(verdict, spots, _left_out(grouped, spots), _gpus_used(spots), at_least, why)


def _as_alike(items: Sequence[Item], nodes: Sequence[Node]) -> tuple[Spot, ...] | None:
    """GPUs that are all alike, on nodes that are (the last may be smaller): as many of them as a packing asks for."""
    sizes = {gpu for node in nodes for gpu in node}
    per_node = len(nodes[0])
    if len(sizes) > 1 or any(len(node) != per_node for node in nodes[:-1]) or len(nodes[-1]) > per_node:
        return None
    answer = pack(items, sizes.pop(), per_node)
    whole = all(gpu < len(nodes[spot.node]) for spot in answer.spots if spot.node < len(nodes) for gpu in spot.gpus)
    return answer.spots if answer.nodes <= len(nodes) and whole else None


def _best_fill(kinds: Kinds, shapes: Sequence[NodeShape]) -> tuple[tuple[Held, ...], tuple[int, ...]]:
    """Large nodes first, or small ones first, in several manners: what leaves the fewest bytes out."""
    largest = _largest(shapes)
    ascending = sorted(range(len(shapes)), key=lambda at: (sum(gpu[0] for gpu in shapes[at]), at))
    best: tuple[int, tuple[Held, ...], tuple[int, ...]] | None = None
    for order in (list(range(len(shapes))), ascending, ascending[::-1]):
        for manner in manners(kinds, largest):
            filled = fill(kinds, (shapes[at] for at in order), largest, len(shapes), manner)
            nodes = [Held(shape, []) for shape in shapes]
            for at, held in zip(order, filled.nodes, strict=False):
                nodes[at] = held
            missing = int((np.array(filled.left) * kinds.needs[:, 0] * kinds.spans).sum()) + sum(filled.left)
            if best is None or missing < best[0]:
                best = (missing, tuple(nodes), filled.left)
            if missing == 0:
                return best[1], best[2]
    assert best is not None
    return best[1], best[2]


def _ruled_out(kinds: Kinds, shapes: Sequence[NodeShape]) -> str:
    """Why there is no way at all, empty if that stays open. Only what is larger than a size of GPU has to go to the
    larger ones: each size in turn."""
    gpus = [gpu for shape in shapes for gpu in shape]
    largest = _largest(shapes)
    for least in sorted({0, *(gpu[0] for gpu in gpus)} - {largest[0]}):
        larger = sum(gpu[0] > least for gpu in gpus)
        only = Kinds(kinds.needs, np.where(kinds.needs[:, 0] > least, kinds.counts, 0), kinds.spans, kinds.apart)
        needed = gpus_bound(only, largest)
        if needed > larger:
            which = f" of more than {least} bytes" if least else ""
            return f"at least {needed} GPUs{which} are needed, and there are {larger}"
    for axis, noun in ((0, "bytes of memory"), (1, "thousandths of a GPU's compute")):
        total, there = kinds.volume[axis], sum(gpu[axis] for gpu in gpus)
        if total > there:
            return f"{total} {noun} are needed, and there are {there}"
    needed = nodes_bound(kinds, largest, max(map(len, shapes)), 0)
    if needed > len(shapes):
        return f"at least {needed} nodes are needed, and there are {len(shapes)}"
    return ""


def _left_out(grouped: Grouped, spots: Sequence[Spot]) -> tuple[tuple[ModelId, int], ...]:
    placed = Counter(spot.model for spot in spots)
    wanted = Counter(model for members in grouped.members for model, _ in members)
    return tuple((model, count - placed[model]) for model, count in sorted(wanted.items()) if count > placed[model])


def _gpus_used(spots: Sequence[Spot]) -> int:
    return len({(spot.node, gpu) for spot in spots for gpu in spot.gpus})


def _largest(shapes: Sequence[NodeShape]) -> Capacity:
    return (max(gpu[0] for shape in shapes for gpu in shape), max(gpu[1] for shape in shapes for gpu in shape))

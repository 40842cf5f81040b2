"""Empties the least used node: each of its replicas goes where there is room, or where another one can make room.

A replica takes the place of a smaller or less choosy one on the same GPU that finds room elsewhere. So the last nodes,
which got what nobody could be beside, are spread over the ones before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packers.static.groups.kinds import Filled, Held, Kinds

MOST_NODES = 400  # with more, looking through them takes longer than it is worth
MOST_MOVED = 64  # replicas of the node to be emptied
MOST_LOOKED_AT = 400_000  # replicas that might make room, in all

Place = tuple[int, ...]
Replica = tuple[int, Place]  # its kind, its GPUs on a node


@dataclass(slots=True)
class _Budget:
    left: int


def mend(kinds: Kinds, filled: Filled, at_least: int) -> Filled:
    """As many nodes fewer as it manages, down to ``at_least``; never more than given."""
    if not at_least < filled.used <= MOST_NODES:
        return filled
    nodes = [_Node.of(kinds, held) for held in filled.nodes if held.placed]
    budget = _Budget(MOST_LOOKED_AT)
    while len(nodes) > at_least and budget.left > 0:
        lightest = min(range(len(nodes)), key=lambda at: (nodes[at].load, -at))
        if len(nodes[lightest].placed) > MOST_MOVED:
            break
        others = [node.copy() for at, node in enumerate(nodes) if at != lightest]
        if not _spread(nodes[lightest].placed, others, budget):
            break
        nodes = others
    return Filled(tuple(Held(node.shape, node.placed) for node in nodes), filled.left)


def _spread(replicas: Sequence[Replica], nodes: list[_Node], budget: _Budget) -> bool:
    hardest = sorted(replicas, key=lambda each: (-len(each[1]), -nodes[0].share(each[0]), each[0])) if nodes else []
    return bool(nodes) and all(_settle(kind, nodes, budget) for kind, _ in hardest)


def _settle(kind: int, nodes: list[_Node], budget: _Budget) -> bool:
    """1. Where it fits. 2. In the place of another that fits elsewhere."""
    for node in nodes:
        place = node.room(kind)
        if place is not None:
            node.put(kind, place)
            return True
    roomy = [node for node in nodes if node.is_roomy]
    for node in nodes:
        for other, place in list(node.could_swap(kind)):
            budget.left -= 1
            if budget.left <= 0:
                return False
            target = next((each for each in roomy if each is not node and each.room(other) is not None), None)
            if target is None:
                continue
            node.drop(other, place)
            if node.allows(kind):
                room = target.room(other)
                assert room is not None
                target.put(other, room)
                node.put(kind, place)
                return True
            node.put(other, place)
    return False


class _Node:
    """Plain integers: it is looked at one replica at a time."""

    def __init__(self, kinds: Kinds, held: Held) -> None:
        self.shape = held.shape
        self.placed: list[Replica] = []
        self.free = [list(gpu) for gpu in held.shape]
        self._kinds = kinds
        self._needs: list[list[int]] = []
        self._barred: dict[int, int] = {}

    @classmethod
    def of(cls, kinds: Kinds, held: Held) -> _Node:
        node = cls(kinds, held)
        node._needs = kinds.needs.tolist()
        for kind, gpus in held.placed:
            node.put(kind, gpus)
        return node

    def copy(self) -> _Node:
        other = _Node(self._kinds, Held(self.shape, []))
        other.placed = list(self.placed)
        other.free = [list(gpu) for gpu in self.free]
        other._needs, other._barred = self._needs, dict(self._barred)
        return other

    @property
    def load(self) -> float:
        """GPUs' worth of what is held, by its scarcer dimension."""
        return sum(len(gpus) * self.share(kind) for kind, gpus in self.placed)

    @property
    def is_roomy(self) -> bool:
        return any(gpu[0] * 100 >= full[0] for gpu, full in zip(self.free, self.shape, strict=True))

    def share(self, kind: int) -> float:
        need, full = self._needs[kind], self.shape[0]
        return max(need[0] / full[0], need[1] / full[1] if full[1] else 0.0)

    def allows(self, kind: int) -> bool:
        return self._barred.get(kind, 0) == 0

    def room(self, kind: int) -> Place | None:
        """The fullest GPUs that it fits on."""
        if not self.allows(kind):
            return None
        need, span = self._needs[kind], int(self._kinds.spans[kind])
        fits = [at for at, gpu in enumerate(self.free) if need[0] <= gpu[0] and need[1] <= gpu[1]]
        if len(fits) < span:
            return None
        return tuple(sorted(sorted(fits, key=lambda at: (self.free[at], at))[:span]))

    def could_swap(self, kind: int) -> Iterator[Replica]:
        """Replicas of single GPUs without which this one would fit there, and that are not as hard to place."""
        need = self._needs[kind]
        if self._kinds.spans[kind] != 1:
            return
        blocked = self._barred.get(kind, 0)
        for other, gpus in self.placed:
            if len(gpus) != 1 or other == kind or (blocked and kind not in self._kinds.apart[other]):
                continue
            free, freed = self.free[gpus[0]], self._needs[other]
            if free[0] + freed[0] >= need[0] and free[1] + freed[1] >= need[1]:
                yield other, gpus

    def put(self, kind: int, gpus: Place) -> None:
        self.placed.append((kind, gpus))
        self._change(kind, gpus, -1)

    def drop(self, kind: int, gpus: Place) -> None:
        self.placed.remove((kind, gpus))
        self._change(kind, gpus, 1)

    def _change(self, kind: int, gpus: Place, sign: int) -> None:
        need = self._needs[kind]
        for at in gpus:
            self.free[at][0] += sign * need[0]
            self.free[at][1] += sign * need[1]
        for other in self._kinds.apart[kind]:
            self._barred[other] = self._barred.get(other, 0) - sign

"""Nodes and GPUs that come and go in virtual time, and which controller each node obeys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from models.fleet.protocol import FleetEvent, FleetNode, GpuLost, NodeLeaving, StartFailed, Superseded
from packers.types import GpuId, NodeId


@dataclass(slots=True)
class VirtualNode:
    """``there``: it answers. ``obeys``: the highest epoch that it has heard. ``lost_gpus``: and why.

    ``given_up``: the fleet does not wait for its return. ``leaving``: what it was told of its end.
    """

    shown: FleetNode
    obeys: int = 0
    given_up: bool = False
    there: asyncio.Event = field(default_factory=asyncio.Event)
    lost_gpus: dict[GpuId, str] = field(default_factory=dict)
    leaving: NodeLeaving | None = None

    @property
    def standing(self) -> list[FleetEvent]:
        """What whoever meets the node now has to be told besides that it is there."""
        lost: list[FleetEvent] = [GpuLost(gpu=gpu, reason=why) for gpu, why in self.lost_gpus.items()]
        return lost if self.leaving is None else [*lost, self.leaving]


class VirtualNodes:
    """All nodes there ever were, in the order in which they joined."""

    def __init__(self, nodes: Iterable[FleetNode]) -> None:
        self._nodes: dict[NodeId, VirtualNode] = {}
        for node in nodes:
            self.join(node)

    def join(self, node: FleetNode) -> None:
        """It is there from now on: for the first time, or again, be it with other GPUs."""
        known = self._nodes.setdefault(node.id, VirtualNode(node))
        known.shown, known.given_up = node, False
        known.there.set()

    def away(self, node: NodeId) -> None:
        self.get(node).there.clear()

    def lose(self, node: NodeId) -> None:
        lost = self.get(node)
        lost.given_up, lost.leaving = True, None
        lost.there.set()  # whoever waits for it learns that there is nothing to wait for
        lost.there.clear()

    def get(self, node: NodeId) -> VirtualNode:
        """Raises KeyError for a node that never joined."""
        return self._nodes[node]

    def of_gpu(self, gpu: GpuId) -> VirtualNode:
        """Raises KeyError for a GPU that no node has."""
        for node in self._nodes.values():
            if any(each.id == gpu for each in node.shown.gpus):
                return node
        raise KeyError(gpu)

    @property
    def shown(self) -> tuple[FleetNode, ...]:
        """Those that answer."""
        return tuple(node.shown for node in self._nodes.values() if node.there.is_set())

    def answers(self, node: NodeId) -> bool:
        return node in self._nodes and self._nodes[node].there.is_set()

    async def back(self, node: NodeId) -> bool:
        """Wait until it answers; False when it was given up instead."""
        found = self.get(node)
        if not found.given_up:
            await found.there.wait()
        return not found.given_up

    def claim(self, epoch: int) -> int:
        """The highest epoch that any node which answers has obeyed; if it is below, they all obey ``epoch`` now."""
        there = [node for node in self._nodes.values() if node.there.is_set()]
        highest = max((node.obeys for node in there), default=0)
        if highest < epoch:
            for node in there:
                node.obeys = epoch
        return highest

    def command(self, node: NodeId, epoch: int) -> None:
        """Raises Superseded when the node obeys a later controller than ``epoch``; else it obeys that."""
        found = self._nodes.get(node)
        if found is None or not found.there.is_set():
            return
        if found.obeys > epoch:
            raise Superseded(found.obeys)
        found.obeys = epoch

    def check_start(self, node: NodeId, gpu: GpuId | None) -> None:
        """Raises StartFailed where nothing can be started now."""
        if not self.answers(node):
            raise StartFailed(f"{node} does not answer")
        if gpu is not None and (why := self.get(node).lost_gpus.get(gpu)) is not None:
            raise StartFailed(f"{gpu} is lost: {why}", "memory")

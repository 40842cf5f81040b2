"""Where weights are in virtual time, and how they come to a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from models.fleet.protocol import StartFailed
from models.fleet.supply import Ask, Fetching, Finding, Found, Listing, Offering, Watching
from models.weights.peers.remote import Peer
from models.weights.records import Progress
from models.weights.urls import is_remote
from packers.types import NodeId

GIB = 2**30


class VirtualWeights:
    """``where``: source -> the nodes that have it; one that is not named here is on all of them.

    ``fetch_s``: how long a fetch takes. ``broken``: node -> the sentence with which it refuses what it has, or fetches.
    ``calls``: "fetch SOURCE to NODE from PEERS", in order.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self.where: dict[str, set[NodeId]] = {}
        self.fetch_s = 5.0
        self.broken: dict[NodeId, str] = {}
        self.calls: list[str] = []

    def has(self, node: NodeId, source: str) -> bool:
        return node in self.where.get(source, {node})

    async def answer(self, node: NodeId, ask: Ask) -> Any:
        match ask:
            case Finding(wanted=wanted):
                here = self.has(node, wanted.source) and node not in self.broken
                return Found(folder=wanted.source) if here else None
            case Offering(wanted=wanted):
                return Peer(node=node, host="", port=0, share="") if self.has(node, wanted.source) else None
            case Fetching(wanted=wanted, peers=peers, download=download):
                said = ", ".join(sorted(peer.node for peer in peers)) or "its source"
                self.calls.append(f"fetch {wanted.source} to {node} from {said}")
                await self._sleep(self.fetch_s)
                if node in self.broken or not (peers or (download and is_remote(wanted.source))):
                    why = self.broken.get(node, "nobody has it")
                    raise StartFailed(f"Model {wanted.card.model_id!r} cannot be started on {node}: {why}.", "weights")
                self.where.setdefault(wanted.source, set()).add(node)
                return Found(folder=wanted.source)
            case Watching(source=source):
                return Progress(source=source, phase="downloading", pid=1, bytes_done=GIB, bytes_total=4 * GIB)
            case Listing():
                return {"object": "list", "data": [source for source in self.where if self.has(node, source)]}

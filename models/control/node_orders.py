"""Operators' orders to nodes: cordon, uncordon, drain and reclaim. Taken and answered by the loop.

cordon: nothing new goes to its GPUs, what is there stays. drain: what is there leaves, too, substitutes elsewhere
first. reclaim: as if its owner had said that it will be taken away then. uncordon takes back all three, also a reclaim
that somebody else announced. All outlive the controller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from models.control.node_book import NodeStanding
from models.control.nodes import RECLAIM_DRAIN_S, RECLAIM_MARGIN_S, NodeDesk
from models.control.world import World
from models.store.records import Command, CommandReply
from packers.decide import Policies, decide
from packers.types import Action, Gpu, NodeId, ReplicaId, Snapshot

AGAIN = "uncordoned"


def of_node(command: Command) -> bool:
    """It is one of those that are taken here."""
    return command.verb in ("cordon", "uncordon", "reclaim") or (command.verb == "drain" and command.node is not None)


@dataclass(frozen=True, slots=True)
class _Waiting:
    command: Command
    node: NodeId
    replicas: tuple[ReplicaId, ...]


class NodeOrders:
    """Owned by the loop."""

    def __init__(self, world: World, desk: NodeDesk, policies: Callable[[], Policies]) -> None:
        self._world = world
        self._desk = desk
        self._policies = policies
        self._waiting: list[_Waiting] = []
        self._replies: list[CommandReply] = []

    def take(self, command: Command, now: float) -> None:
        standing = self._find(command)
        if standing is None:
            return
        gone_s = _gone_s(command, now)
        if command.verb == "reclaim" and gone_s <= now:
            return self._answer(command, False, "say in how many seconds the node will be gone", "invalid_request")
        detail = self._detail(standing, command, now)
        if command.dry_run:
            return self._answer(command, True, self._would(standing, command, now), detail=detail)
        match command.verb:
            case "cordon":
                standing.cordoned, standing.drained = True, False
            case "uncordon":
                standing.cordoned = standing.drained = False
                standing.stays()
            case "drain":
                standing.cordoned = standing.drained = True
            case _:
                self._desk.leaves(standing.joined.id, gone_s, "an operator said so")
                standing.reclaimed = True
        self._world.yard.changed()
        self._desk.noted(standing, command.verb)
        here = self._on(standing.joined.id)
        if command.wait and command.verb in ("drain", "reclaim"):
            self._waiting.append(_Waiting(command, standing.joined.id, tuple(here)))
        else:
            text = self._said(standing, command, now)
            self._answer(command, True, text, actions=[str(replica) for replica in here], detail=detail)

    def due(self) -> list[CommandReply]:
        """Replies that can be given now."""
        self._waiting = [waiting for waiting in self._waiting if not self._settled(waiting)]
        replies, self._replies = self._replies, []
        return replies

    def _find(self, command: Command) -> NodeStanding | None:
        node = NodeId(command.node or "")
        standing = self._world.yard.get(node)
        if standing is not None and (node in self._world.nodes or command.verb != "reclaim"):
            return standing
        known = ", ".join(sorted(self._world.nodes)) or "none"
        text = f"there is no node {node!r}; these are there: {known}"
        if standing is not None:
            text = f"{node} is lost ({standing.lost}): there is nothing to be taken away"
        self._answer(command, False, text, "node_not_found")
        return None

    def _settled(self, waiting: _Waiting) -> bool:
        command, node = waiting.command, waiting.node
        standing, ended = self._world.yard.get(node), [str(replica) for replica in waiting.replicas]
        if standing is None or node not in self._world.nodes:
            self._answer(command, True, f"{node} is gone, and what was on it with it", actions=ended)
        elif standing.leaving_at_s is None and not standing.drained:
            self._answer(command, False, f"{node} takes replicas again: {AGAIN} meanwhile", AGAIN)
        elif not self._on(node):
            self._answer(command, True, f"{node} is empty", actions=ended)
        else:
            return False
        return True

    def _on(self, node: NodeId) -> list[ReplicaId]:
        """Whoever holds memory there, host RAM included."""
        return [entry.replica for entry in self._world.ledger.entries() if entry.node == node]

    def _said(self, standing: NodeStanding, command: Command, now: float) -> str:
        node, here = standing.joined.id, self._on(standing.joined.id)
        if standing.lost:
            held = "takes replicas" if command.verb == "uncordon" else "takes none"
            return f"{node} is lost ({standing.lost}); it {held} when it joins again"
        away = f"; it is away ({standing.away}): what is there hears of it when it is back" if standing.away else ""
        stay = f"{_replicas(len(here))} there stay" if len(here) != 1 else "1 replica there stays"
        leave = f"{_replicas(len(here))} to leave it" if here else "nothing is on it"
        match command.verb:
            case "uncordon":
                return f"{node} takes replicas again{away}"
            case "cordon":
                return f"{node} takes no new replicas; {stay if here else 'nothing is on it'}{away}"
            case "drain":
                return f"{node} takes no new replicas; {leave}{away}"
            case _:
                return f"{node} is gone in {_gone_s(command, now) - now:.0f} s; {leave}{away}"

    def _would(self, standing: NodeStanding, command: Command, now: float) -> str:
        if command.verb == "uncordon" and not standing.cordoned and standing.leaving_at_s is None:
            return f"{standing.joined.id} is not cordoned: nothing would change"
        return f"if this were done: {self._said(standing, command, now)}"

    def _detail(self, standing: NodeStanding, command: Command, now: float) -> dict[str, Any]:
        """What stands there, and for a dry run what would be decided at once."""
        node = standing.joined.id
        detail: dict[str, Any] = {"node": node, "replicas": [str(replica) for replica in self._on(node)]}
        if command.verb == "reclaim":
            detail["leaves_by_unix_s"] = _gone_s(command, now) - RECLAIM_MARGIN_S
            detail["drains_from_unix_s"] = detail["leaves_by_unix_s"] - RECLAIM_DRAIN_S
        if command.dry_run:
            snapshot = _as_if(self._world.snapshot(self._world.now), node, command.verb)
            detail["plan"] = [_shown(action) for action in decide(snapshot, self._policies()).actions]
        return detail

    def _answer(
        self,
        command: Command,
        ok: bool,
        message: str,
        code: str | None = None,
        *,
        actions: list[str] | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        self._replies.append(
            CommandReply(id=command.id, ok=ok, message=message, code=code, actions=actions or [], detail=detail or {})
        )


def _gone_s(command: Command, now: float) -> float:
    """When a reclaimed node will be gone: then, or so long from now."""
    return command.until_unix_s if command.until_unix_s is not None else now + command.for_s


def _as_if(snapshot: Snapshot, node: NodeId, verb: str) -> Snapshot:
    """The world in which that had been ordered."""

    def changed(gpu: Gpu) -> Gpu:
        if gpu.node != node:
            return gpu
        if verb == "uncordon":
            return replace(gpu, cordoned=False, closed="")
        return replace(gpu, cordoned=verb != "cordon", closed=f"{node} is cordoned")

    return replace(snapshot, gpus=tuple(changed(gpu) for gpu in snapshot.gpus))


def _shown(action: Action) -> dict[str, Any]:
    return {
        "action": type(action).__name__.lower(),
        "model_id": action.model,
        "replica_id": getattr(action, "replica", None),
        "gpu": getattr(action, "gpu", None),
        "evicted_for": getattr(action, "evicted_for", None),
        "reason": action.reason,
    }


def _replicas(count: int) -> str:
    return f"{count} replica{'s' * (count != 1)}"

"""Answers what operators ask about the weights on a node. The node is asked beside the loop, which it never keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from models.control.world import World
from models.fleet.protocol import StartFailed
from models.fleet.supply import Listing
from models.store.records import Command, CommandReply
from packers.types import NodeId

VERB = "weights"
ANSWER_S = 14.0  # a gateway waits for a little longer


class WeightsDesk:
    """``ask``: puts a question about weights to a node (``Fleet.weights``). ``spawn``: runs it beside the loop."""

    def __init__(
        self,
        world: World,
        ask: Callable[[NodeId, Any], Awaitable[Any]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._world = world
        self._ask = ask
        self._spawn = spawn
        self._replies: list[CommandReply] = []

    def take(self, command: Command) -> None:
        node = NodeId(command.node or "")
        if node not in self._world.nodes:
            known = ", ".join(sorted(self._world.nodes)) or "none"
            self._answer(command, f"there is no node {node!r}; these are there: {known}", "node_not_found")
        else:
            self._spawn(self._list(command, node))

    def due(self) -> list[CommandReply]:
        replies, self._replies = self._replies, []
        return replies

    async def _list(self, command: Command, node: NodeId) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                found: dict[str, Any] = await self._ask(node, Listing())
        except StartFailed as problem:
            return self._answer(command, f"{node} cannot be asked: {problem}", "node_away")
        except TimeoutError:
            text = f"{node} has not said within {ANSWER_S:g} s what is in its store: does its disk answer?"
            return self._answer(command, text, "node_away")
        text = f"{len(found['data'])} folders on {node}"
        self._replies.append(CommandReply(id=command.id, ok=True, message=text, detail={**found, "node": node}))

    def _answer(self, command: Command, message: str, code: str) -> None:
        self._replies.append(CommandReply(id=command.id, ok=False, message=message, code=code))

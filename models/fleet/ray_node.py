"""One node of the fleet on Ray: its actors as they are now, and how calls get through while it comes and goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayError

from models.fleet.keeper_actor import KeeperActor
from models.fleet.node_actor import Greeting, NodeActor
from models.fleet.node_place import NodeSettings
from models.fleet.node_watch import NodeFacts
from models.fleet.presence import Presence
from models.fleet.protocol import (
    FleetEvent,
    FleetNode,
    GpuBack,
    GpuLost,
    NodeAway,
    NodeJoined,
    NodeLeaving,
    NodeLost,
    StartFailed,
)
from models.fleet.ray_actors import kill_actor, named_actor
from models.fleet.ray_calls import ActorGone, NodeGivenUp, ask, ask_until
from packers.types import GpuId, NodeId

PING_EVERY_S = 1.0
ASK_ANEW_AFTER_S = 10.0  # what was asked before may have got lost
STEADY_S = 2.0  # of silence at most: two questions
MAKE_TIMEOUT_S = 30.0  # for Ray's head to take note of an actor
GREET_TIMEOUT_S = 60.0  # for its process to start and import, on a machine that has other things to do
AGAIN_TIMEOUT_S = 10.0  # where the process is there already
RETRY_S = 0.2
LONGEST_RETRY_S = 30.0
FACTS_WITHIN_S = 20.0

Tell = Callable[[FleetEvent], Awaitable[None]]
log = logging.getLogger("roundhouse.fleet")


@dataclass(frozen=True, slots=True, eq=False)
class Incarnation:
    """What the node is from one start of its Ray to the next. ``ended``: nobody waits for answers from it any more."""

    ray_node: str
    actor: Any
    keeper: Any
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def make(cls, settings: NodeSettings, ray_node: str) -> Incarnation:
        """Find or create its actors; blocks. Raises RayError."""
        name = f"{settings.node}-{ray_node[:8]}"
        actor = named_actor(NodeActor, f"node-{name}", settings, ray_node=ray_node, restart=True)
        return cls(
            ray_node, actor, named_actor(KeeperActor, f"keeper-{name}", settings, ray_node=ray_node, restart=True)
        )

    def kill(self) -> None:
        for handle in (self.actor, self.keeper):
            kill_actor(handle)


Call = Callable[[Incarnation], Any]  # begins an actor call


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question whose answer is under way."""

    of: Incarnation
    answer: asyncio.Future[Any]
    at_s: float


class RayNode:
    """``epoch``: of the controller, as it is now. ``clock``: monotonic seconds.

    ``shown`` is None until it was met for the first time.
    """

    def __init__(
        self, settings: NodeSettings, tell: Tell, epoch: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self.name: NodeId = settings.node
        self.shown: FleetNode | None = None
        self.problem = ""  # why it could not be met
        self._settings = settings
        self._tell = tell
        self._epoch = epoch
        self._clock = clock
        self._now: Incarnation | None = None
        self._presence = Presence(clock())
        self._there = asyncio.Event()
        self._lost = False
        self._asked: _Asked | None = None
        self._facts = NodeFacts()
        self._following: asyncio.Task[None] | None = None
        self._retry_at_s, self._retry_s = 0.0, RETRY_S

    # -- calls ---------------------------------------------------------------------------------------------------

    @property
    def answers(self) -> bool:
        return self._there.is_set() and not self._lost

    @property
    def ray_node(self) -> str | None:
        return None if self._now is None else self._now.ray_node

    async def insist(self, call: Call, on_gone: Callable[[], object] = lambda: None) -> Any:
        """Repeat ``call`` through the node's absence. ``on_gone``: before each repetition.

        Raises StartFailed, NodeGivenUp when it is lost; Superseded.
        """
        while True:
            now = await self._until_there()
            try:
                return await ask_until(call(now), now.ended)
            except ActorGone:
                on_gone()
                await asyncio.sleep(RETRY_S)

    async def _until_there(self) -> Incarnation:
        await self._there.wait()
        if self._lost or self._now is None:
            raise NodeGivenUp(f"{self.name} was given up: {self.problem or 'it does not answer'}")
        return self._now

    def tell(self, call: Call) -> None:
        """Whether it is heard is of no concern."""
        if self._now is not None:
            call(self._now)

    async def once(self, call: Call, within_s: float | None) -> Any:
        """Raises StartFailed, ActorGone when there is no answer in time; Superseded."""
        if not self.answers or self._now is None:
            raise ActorGone(f"{self.name} does not answer")
        try:
            async with asyncio.timeout(within_s):
                return await ask_until(call(self._now), self._now.ended)
        except TimeoutError:
            raise ActorGone(f"{self.name} has not answered for {within_s} s") from None

    # -- its life ------------------------------------------------------------------------------------------------

    def wants(self, ray_node: str) -> bool:
        """Whether a living Ray node of this name is to be met now. Ray may list one that is over for a while."""
        steady = self.answers and self._presence.silent_s < STEADY_S
        return (self._lost or (ray_node != self.ray_node and not steady)) and self._clock() >= self._retry_at_s

    async def meet(self, ray_node: str) -> bool:
        """Take up a node that Ray lists as alive; whether it worked; if not, why is logged."""
        try:
            async with asyncio.timeout(MAKE_TIMEOUT_S):
                met = await asyncio.to_thread(Incarnation.make, self._settings, ray_node)
            greeting = await self._greet(met, GREET_TIMEOUT_S)
        except TimeoutError:
            self._put_off("it does not answer")
            return False
        except (StartFailed, RayError) as problem:
            self._put_off(str(problem))
            return False
        before, self._now = self._now, met
        if before is not None:
            before.ended.set()
            if before.ray_node != met.ray_node:
                await asyncio.to_thread(before.kill)
        await self._joined(greeting)
        return True

    def _put_off(self, why: str) -> None:
        if why != self.problem:
            self.problem = why
            log.error("node %s cannot be used: %s", self.name, why)
        self._retry_at_s = self._clock() + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    async def _greet(self, now: Incarnation, within_s: float) -> Greeting:
        async with asyncio.timeout(within_s):
            greeting: Greeting = await ask(now.actor.greet.remote(self._epoch()))
            return greeting

    async def _joined(self, greeting: Greeting) -> None:
        self.shown, self.problem, self._lost = greeting.node, "", False
        self._retry_at_s, self._retry_s = 0.0, RETRY_S
        self._presence.answered(self._clock())
        self._there.set()
        self._facts = NodeFacts()
        await self._tell(NodeJoined(node=greeting.node, engines=greeting.engines))
        await self._learn(greeting.facts)

    async def attend(self, given_up: Callable[[], bool | None]) -> None:
        """For ever: notice when it falls silent, comes back or is lost, and follow what it says of itself.

        ``given_up``: by Ray, None when nobody knows.
        """
        self._following = asyncio.get_running_loop().create_task(self._follow_facts())
        try:
            while True:
                await self._ping()
                await self._judge(given_up())
        finally:
            self._following.cancel()
            if self._asked is not None:
                self._asked.answer.cancel()

    async def _ping(self) -> None:
        """Ask, PING_EVERY_S at least after the last time. A late answer counts: on a busy machine all are late."""
        now = self._now
        pausing = asyncio.ensure_future(asyncio.sleep(PING_EVERY_S))
        try:
            if now is not None and not self._lost and await self._pinged(now):
                if self._there.is_set():
                    self._presence.answered(self._clock())
                else:
                    await self._joined(await self._greet(now, AGAIN_TIMEOUT_S))
        except (StartFailed, TimeoutError):
            pass
        finally:
            await pausing

    async def _pinged(self, now: Incarnation) -> bool:
        """Whether the question that is under way, or else a new one, is answered within PING_EVERY_S.

        Raises StartFailed.
        """
        asked = self._asked
        if asked is None or asked.of is not now or self._clock() - asked.at_s > ASK_ANEW_AFTER_S:
            if asked is not None:
                asked.answer.cancel()
            answer = asyncio.ensure_future(ask_until(now.actor.pid.remote(), now.ended))
            asked = self._asked = _Asked(now, answer, self._clock())
        await asyncio.wait((asked.answer,), timeout=PING_EVERY_S)
        if not asked.answer.done():
            return False
        self._asked = None
        asked.answer.result()
        return True

    async def _judge(self, given_up: bool | None) -> None:
        if self._lost or self.shown is None:
            return
        state = self._presence.look(self._clock(), given_up)
        silent = f"{self.name} has not answered for {self._presence.silent_s:.0f} s"
        if state == "lost":
            await self._lose(f"{silent}{', and Ray has given it up' if given_up else ''}")
        elif state == "away" and self._there.is_set():
            self._there.clear()
            await self._tell(NodeAway(node=self.name, reason=silent))

    async def _lose(self, reason: str) -> None:
        self._lost, self.problem = True, reason
        if self._now is not None:
            self._now.ended.set()
        self._there.set()  # whoever waits for it learns that there is nothing to wait for
        await self._tell(NodeLost(node=self.name, reason=reason))

    async def _follow_facts(self) -> None:
        while True:
            try:
                await self._until_there()
                await self._ask_facts(self._facts)
            except (StartFailed, TimeoutError):
                await asyncio.sleep(PING_EVERY_S)

    async def _ask_facts(self, known: NodeFacts) -> None:
        facts: NodeFacts = await self.once(
            lambda now: now.actor.facts.remote(known, FACTS_WITHIN_S), FACTS_WITHIN_S + AGAIN_TIMEOUT_S
        )
        if self._facts is known:  # else it has joined again meanwhile, and said it all
            await self._learn(facts)

    async def _learn(self, facts: NodeFacts) -> None:
        before, self._facts = self._facts, facts
        for gpu, why in facts.lost.items():
            if before.lost.get(gpu) != why:
                await self._tell(GpuLost(gpu=GpuId(gpu), reason=why))
        for gpu in before.lost.keys() - facts.lost.keys():
            await self._tell(GpuBack(gpu=GpuId(gpu)))
        leaving = (facts.leaving_unix_s, facts.leaving_reason)
        if leaving == (before.leaving_unix_s, before.leaving_reason):
            return
        if facts.leaving_unix_s is not None:
            await self._tell(NodeLeaving(node=self.name, at_unix_s=facts.leaving_unix_s, reason=facts.leaving_reason))
        elif self._now is not None:  # it stays after all: as if it had come anew
            self._facts = before
            await self._joined(await self._greet(self._now, AGAIN_TIMEOUT_S))

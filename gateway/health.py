"""Replicas that say nothing any more: noticed on the request path, asked, taken out, and let back when they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.admit import Admission, Claim
from gateway.ending import end
from packers.types import ReplicaId

ANSWER_S = 3.0  # a replica that does not answer within this is out; with the silence before it well within promise R3
FRESH_S = 2.0  # an answer says so much for so long: a busy engine is silent for as long as it thinks
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 4.0

Probe = Callable[[str, float], Awaitable[bool]]  # endpoint, seconds: whether it answered within them

log = structlog.get_logger(__name__)


class Health:
    """One task per replica in doubt, none otherwise.

    ``probe`` asks an engine whether it is there. ``on_ejected`` is told of one that is not: what waits there for its
    first byte had better go elsewhere.
    """

    def __init__(self, admission: Admission, probe: Probe, on_ejected: Callable[[ReplicaId], None]) -> None:
        self._admission = admission
        self._probe = probe
        self._on_ejected = on_ejected
        self._asking: dict[ReplicaId, asyncio.Task[None]] = {}
        self._answered_s: dict[ReplicaId, float] = {}
        admission.doubted = self.doubted

    def silent(self, claim: Claim) -> None:
        """A request had no byte from its engine for a while. Cheap, and may be called again and again."""
        replica = claim.replica
        answered_s = self._answered_s.get(replica)
        if replica in self._asking or (answered_s is not None and self._now_s() - answered_s < FRESH_S):
            return
        self._start(replica, self._ask(replica, claim.endpoint))

    def doubted(self, replica: ReplicaId, endpoint: str) -> None:
        """It failed several times in a row: nobody's request is to find out whether it works again."""
        if replica not in self._asking and self._admission.eject(replica):
            log.warning("replica is out until it answers", replica=replica, reason="failures in a row")
            self._start(replica, self._until_back(replica, endpoint))

    async def close(self) -> None:
        await end(self._asking.values())

    async def _ask(self, replica: ReplicaId, endpoint: str) -> None:
        if await self._probe(endpoint, ANSWER_S):
            now_s = self._now_s()
            self._answered_s = {one: at_s for one, at_s in self._answered_s.items() if now_s - at_s < FRESH_S}
            self._answered_s[replica] = now_s
        elif self._admission.eject(replica):
            log.warning("replica is out until it answers", replica=replica, reason=f"silent for {ANSWER_S:g} s")
            self._on_ejected(replica)
            await self._until_back(replica, endpoint)

    async def _until_back(self, replica: ReplicaId, endpoint: str) -> None:
        rotation = self._admission.rotation
        wait_s = max(FIRST_WAIT_S, rotation.left_s(replica, self._now_s()))
        while rotation.is_ejected(replica):
            await asyncio.sleep(wait_s)
            if await self._probe(endpoint, ANSWER_S):
                self._admission.let_back(replica)
                log.info("replica answers again", replica=replica)
                return
            wait_s = min(LONGEST_WAIT_S, wait_s * 2)

    def _start(self, replica: ReplicaId, asking: Awaitable[None]) -> None:
        task = self._asking[replica] = asyncio.ensure_future(asking)
        task.add_done_callback(lambda done: self._ended(replica, done))

    def _ended(self, replica: ReplicaId, done: asyncio.Task[None]) -> None:
        self._asking.pop(replica, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("asking a replica failed", replica=replica, exc_info=error)

    def _now_s(self) -> float:
        return self._admission.clock.monotonic()

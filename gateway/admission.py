"""Admission: a request gets a replica now, waits for one in a bounded queue, or is refused with the reason."""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.demand import Demand
from gateway.errors import GatewayError, HoldQueueFull, HoldTimeout, ModelNotFound, ModelStartFailed, Unavailable
from gateway.routing import Routes, pick
from models.store.records import Failure, ModelRoute
from packers.types import ModelId, ReplicaId

RECHECK_S = 0.5  # how often a held request looks by itself: a suspicion may have ended without news
RETRY_AFTER_FULL_S = 2.0
RETRY_AFTER_TIMEOUT_S = 5.0
_PATH = re.compile(r"(?<![\w/:.])(?:/[\w.+@-]+){2,}/?")


@dataclass(frozen=True, slots=True)
class Claim:
    """A place on a replica. Counted as in flight from the moment it was chosen until it is given back."""

    model: ModelId
    replica: ReplicaId
    endpoint: str
    since_s: float = field(default=0.0, compare=False)  # monotonic


@dataclass(slots=True, eq=False)
class Ticket:
    """One held request."""

    id: int
    model: ModelId
    since_unix_s: float
    news: asyncio.Event = field(default_factory=asyncio.Event)


class HoldQueue:
    """Requests that wait for a replica, per model, oldest first; at most ``limit`` of a model."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids = itertools.count(1)
        self._waiting: dict[ModelId, dict[int, Ticket]] = {}

    def enter(self, model: ModelId, now_unix_s: float) -> Ticket:
        """Raises HoldQueueFull."""
        waiting = self._waiting.setdefault(model, {})
        if len(waiting) >= self._limit:
            raise HoldQueueFull(
                f"{len(waiting)} requests already wait for the model '{model}' to start; try again later.",
                retry_after_s=RETRY_AFTER_FULL_S,
            )
        ticket = Ticket(next(self._ids), model, now_unix_s)
        waiting[ticket.id] = ticket
        return ticket

    def leave(self, ticket: Ticket) -> None:
        waiting = self._waiting.get(ticket.model, {})
        waiting.pop(ticket.id, None)
        if not waiting:
            self._waiting.pop(ticket.model, None)

    def count(self, model: ModelId) -> int:
        return len(self._waiting.get(model, ()))

    def wake_all(self) -> None:
        """The routes changed: everybody looks again, oldest first."""
        for waiting in self._waiting.values():
            for ticket in waiting.values():
                ticket.news.set()


@dataclass(slots=True)
class Admission:
    """Decides who may go to which replica. Single-threaded: a decision and its count are one step."""

    routes: Routes
    demand: Demand
    queue: HoldQueue
    clock: Clock

    def find(self, name: str) -> ModelRoute:
        """Raises ModelNotFound, and Unavailable while no table was ever seen."""
        route = self.routes.find(name)
        if route is not None:
            return route
        if not self.routes.loaded:
            raise Unavailable("The server is starting and does not know its models yet; try again.", retry_after_s=1)
        raise ModelNotFound(name)

    def admit_now(self, name: str) -> Claim | None:
        """A place right away, None when the request has to be held. Raises ModelNotFound and ModelStartFailed."""
        route = self.find(name)
        if claim := self.claim(route):
            return claim
        if refusal := refused_at_once(route.failure, self.clock.unix()):
            raise refusal
        return None

    async def hold(self, name: str, deadline_s: float) -> Claim:
        """Wait until ``deadline_s`` (monotonic) at most for a place. Cancelling it frees the place in the queue.

        Raises ModelNotFound, ModelStartFailed, HoldQueueFull, HoldTimeout.
        """
        ticket = self.queue.enter(ModelId(self.find(name).model_id), self.clock.unix())
        deadline_unix_s = ticket.since_unix_s + deadline_s - self.clock.monotonic()
        self.demand.held(ticket.model, ticket.id, ticket.since_unix_s, deadline_unix_s)
        try:
            return await self._wait(ticket, deadline_s)
        finally:
            # After the claim was counted: the controller never sees the request in neither place.
            self.queue.leave(ticket)
            self.demand.unheld(ticket.model, ticket.id)

    def claim(self, route: ModelRoute) -> Claim | None:
        """A place on the least busy ready replica, None when there is none."""
        chosen = pick(self.routes.candidates(route, self.clock.monotonic()), self.demand.on_replica)
        if chosen is None:
            return None
        since_s = self.clock.monotonic()
        claim = Claim(ModelId(route.model_id), ReplicaId(chosen.replica_id), chosen.endpoint, since_s)
        self.demand.began(claim.model, claim.replica)
        return claim

    def arrived(self, route: ModelRoute) -> None:
        self.demand.arrived(ModelId(route.model_id), self.clock.unix())

    def give_back(self, claim: Claim) -> None:
        draining = self.routes.is_draining(claim.replica)
        busy_s = self.clock.monotonic() - claim.since_s
        now_unix_s = self.clock.unix()
        self.demand.ended(claim.model, claim.replica, draining=draining, now_unix_s=now_unix_s, busy_s=busy_s)

    def routes_changed(self) -> None:
        self.demand.routes_applied()
        self.queue.wake_all()

    async def _wait(self, ticket: Ticket, deadline_s: float) -> Claim:
        while True:
            if claim := self._look(ticket):
                return claim
            left_s = deadline_s - self.clock.monotonic()
            if left_s <= 0:
                waited_s = max(0.0, self.clock.unix() - ticket.since_unix_s)
                raise HoldTimeout(
                    f"The model '{ticket.model}' was not ready within {waited_s:.1f} s; it may still be starting.",
                    param="model",
                    retry_after_s=RETRY_AFTER_TIMEOUT_S,
                )
            ticket.news.clear()
            try:
                async with asyncio.timeout(min(left_s, RECHECK_S)):
                    await ticket.news.wait()
            except TimeoutError:
                pass  # looks again, by itself

    def _look(self, ticket: Ticket) -> Claim | None:
        """The next step of a held request, None when it waits on.

        1. The model is gone: not found.
        2. A replica is ready: go.
        3. It failed since the hold began: that failure. A permanent one counts whenever it happened: the request may
           have come in while the news was on its way.
        """
        route = self.routes.find(ticket.model)
        if route is None:  # 1
            raise ModelNotFound(ticket.model)
        if claim := self.claim(route):  # 2
            return claim
        failure = route.failure
        if failure is not None and (failure.permanent or failure.at_unix_s > ticket.since_unix_s):  # 3
            raise start_failed(failure, self.clock.unix())
        return None


def refused_at_once(failure: Failure | None, now_unix_s: float) -> GatewayError | None:
    """What a new request for a model without a ready replica is told, None when it may wait for one."""
    if failure is None or not (failure.permanent or failure.retry_at_unix_s > now_unix_s):
        return None
    return start_failed(failure, now_unix_s)


def without_folders(message: str) -> str:
    """Callers learn which file it is about, not where it lies; operators see the whole path in the admin API."""
    return _PATH.sub(lambda path: path[0].rstrip("/").rpartition("/")[2], message)


def start_failed(failure: Failure, now_unix_s: float) -> ModelStartFailed:
    return ModelStartFailed(
        without_folders(failure.message),
        code=failure.code,
        permanent=failure.permanent,
        retry_after_s=max(1.0, failure.retry_at_unix_s - now_unix_s),
    )

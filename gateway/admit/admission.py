"""Admission: a request gets a replica now, waits for one in a bounded queue, or is refused with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from gateway.admit.claims import Claim, Outcome, Seat
from gateway.admit.desk import Desk
from gateway.admit.holding import Holding, Later
from gateway.admit.judgement import too_late
from gateway.admit.retries import MOST_PER_REQUEST
from gateway.admit.rotation import Rotation
from gateway.admit.target import Target
from gateway.clock import Clock
from gateway.demand import Demand
from gateway.errors import ModelNotFound, Unavailable
from gateway.inquiry import Inquiry
from gateway.routing import Routes
from models.store.records import ModelRoute
from packers.types import ModelId, ReplicaId

DOUBTFUL = 3


def _soon(callback: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_soon(callback)


class Admission(Holding):
    """Decides who may go to which replica. Single-threaded and synchronous: a decision and its count are one step.

    ``workers``: how many share the replicas' slots. ``queue_wait_s``: for how long a request may wait for a busy
    replica, besides its own deadline. ``later`` calls back from the event loop, after what is going on now.
    ``doubted`` is told of a replica, with its endpoint, that failed DOUBTFUL times in a row.
    """

    def __init__(
        self,
        routes: Routes,
        demand: Demand,
        clock: Clock,
        hold_limit: int = 1024,
        *,
        workers: int = 1,
        queue_wait_s: float = float("inf"),
        rng: Random | None = None,
        later: Later = _soon,
    ) -> None:
        super().__init__(demand, clock, hold_limit, queue_wait_s, rng or Random(), later)
        self.routes = routes
        self.rotation = Rotation()
        self.doubted: Callable[[ReplicaId, str], None] | None = None
        self._workers = workers
        self._in_flight = 0
        self._desks: dict[str, Desk] = {}
        self._desk_of: dict[ReplicaId, Desk] = {}
        self._ahead_s = self._steady_ahead_s()

    def _steady_ahead_s(self) -> float:
        """From the monotonic clock to the steady one, which takes longer to ask: every tick will do."""
        return self.clock.steady() - self.clock.monotonic()

    @property
    def workers(self) -> int:
        return self._workers

    @workers.setter
    def workers(self, workers: int) -> None:
        self._workers = workers
        for desk in self._desks.values():
            desk.share(workers)
            self._serve(desk)

    @property
    def in_flight(self) -> int:
        """On replicas, from this worker."""
        return self._in_flight

    def find(self, name: str) -> ModelRoute:
        """By id, alias or adapter. Raises ModelNotFound, and Unavailable while no table was ever seen."""
        route = self.routes.find(name)
        if route is not None:
            return route
        if not self.routes.loaded:
            raise Unavailable("The server is starting and does not know its models yet; try again.", retry_after_s=1)
        raise ModelNotFound(name)

    def arrived(self, route: ModelRoute) -> None:
        self.demand.arrived(ModelId(route.model_id), self.clock.monotonic() + self._ahead_s)

    def admit(self, inquiry: Inquiry, seat: Seat) -> Claim | None:
        """A place now, or None: then ``seat`` is told later. An inquiry with ``avoid`` is a retry.

        Raises ModelNotFound, ModelStartFailed, HoldTimeout (it will not be ready in time) and HoldQueueFull (no room in
        the queue, or it will not be its turn in time).
        """
        name = inquiry.path_model or inquiry.peek.model
        route = self.find(name)
        desk = self._desks.get(route.model_id)
        if desk is None or desk.route is not route:
            desk = self._look_at(route)
        if not desk.queue.count and not inquiry.avoid:
            target = desk.pick(inquiry, self._rng)
            if target is not None:
                return self._claim(desk, target, name, inquiry.peek.tokens, self.clock.monotonic())
        return self._admit_or_hold(desk, name, inquiry, seat)

    def give_back(self, claim: Claim, outcome: Outcome) -> None:
        """The request is over, or goes elsewhere. Only the first time counts."""
        desk, target = claim.desk, claim.target
        if desk is None or target is None:
            return
        claim.desk = claim.target = None
        now_s = self.clock.monotonic()
        claim.shared_s = target.share_until(now_s) - claim.shared_s
        target.flying -= 1
        target.tokens -= claim.tokens
        self._in_flight -= 1
        busy_s = now_s - claim.since_s
        draining = not target.ready
        now_unix_s = now_s + self._ahead_s
        self.demand.ended(claim.model, claim.replica, draining=draining, now_unix_s=now_unix_s, busy_s=busy_s)
        if outcome is Outcome.OK:
            desk.pace.took(busy_s)
            if self.rotation:
                self._trust(target.id, desk)
        elif outcome is not Outcome.LEFT:
            self._suspect(target.id, desk, now_s)
        if claim.retry:
            claim.retry = False
            desk.retries.going -= 1
        if desk.queue.count or desk.retries.waiting:
            self._serve(desk)
        if draining and not target.flying:
            desk.targets.pop(target.id, None)
            self._forget(target.id)

    def answered(self, claim: Claim) -> None:
        """The first byte is here: a retry is a request like any other now. Nothing happens to others."""
        if claim.retry and claim.desk is not None:
            claim.retry = False
            claim.desk.retries.going -= 1
            self._serve(claim.desk)

    def may_retry(self, claim: Claim, tries: int) -> bool:
        """Whether a request that was lost on ``claim`` may go elsewhere; ``tries``: how often it did so already.

        At most 2 per request (promise R2). The other half of the promise, that retries are at most a fifth of the
        active requests (or 3, where that is more), is kept by ``admit``: those over it do not fail but are held.
        """
        return tries < MOST_PER_REQUEST and self.routes.find(claim.model) is not None

    def routes_changed(self) -> None:
        """A new table is in force: held requests get their places, or the news that there will be none."""
        self.demand.routes_applied()
        doubtful = {self._desk_of[replica] for replica in self.rotation}
        for desk in list(self._desks.values()):
            route = self.routes.find(desk.model)
            if route is None or route.model_id != desk.model:
                self._close(desk, renamed=route is not None)
            elif desk.route is not route and (desk.counts.in_flight or desk.counts.waiting or desk in doubtful):
                self._look_at(route)
                self._tell_failure(desk)
                self._serve(desk)

    def eject(self, replica: ReplicaId) -> bool:
        """Nothing new goes there until ``let_back``, or until it answers a request. False when it is gone."""
        desk = self._desk_of.get(replica)
        if desk is None or not desk.targets[replica].ready:
            return False
        self.rotation.eject(replica, self.clock.monotonic())
        desk.reopen(self.rotation)
        return True

    def let_back(self, replica: ReplicaId) -> None:
        """It answered a probe."""
        desk = self._desk_of.get(replica)
        if desk is not None and self.rotation.readmit(replica):
            desk.reopen(self.rotation)
            self._serve(desk)

    def tick(self) -> None:
        """What comes with time: ends of suspicions, deadlines of held requests. To be called every 0.1 s."""
        now_s, self._ahead_s = self.clock.monotonic(), self._steady_ahead_s()
        for replica in self.rotation.ended(now_s) if self.rotation else ():
            desk = self._desk_of[replica]
            desk.reopen(self.rotation)
            self._serve(desk)
        for desk in list(self._waiting.values()):
            for ticket in desk.overdue(now_s):
                self._refuse(ticket, too_late(ticket, now_s))
            self._serve(desk)
        for model in self._returning.overdue(now_s):
            self._returning.no_more(model)
            self._nobody_waits(self._desks[model])

    # -- places ----------------------------------------------------------------------------------------------------

    def _claim(self, desk: Desk, target: Target, name: str, tokens: int, now_s: float) -> Claim:
        shared_s = target.share_until(now_s)
        target.flying += 1
        target.tokens += tokens
        self._in_flight += 1
        self.demand.began(desk.model, target.id)
        serves_as = target.serves_as
        if serves_as is not None and name in desk.adapters:
            serves_as = None  # an adapter is called by its own name everywhere
        return Claim(
            desk.model, target.id, target.endpoint, serves_as, now_s, tokens, 0.0, False, False, shared_s, desk, target
        )

    def _look_at(self, route: ModelRoute) -> Desk:
        """The model's desk, brought up to date."""
        desk = self._desks.get(route.model_id)
        if desk is None:
            model = ModelId(route.model_id)
            desk = self._desks[model] = Desk(route, self.demand.of(model))
        before = desk.targets
        desk.update(route, self._workers, self.rotation)
        for replica in desk.targets:
            self._desk_of[replica] = desk
        for replica in before:
            if replica not in desk.targets:
                self._forget(replica)
        if not desk.cold:
            self._returning.no_more(desk.model)
            desk.cold_since_s = None
        return desk

    def _close(self, desk: Desk, *, renamed: bool) -> None:
        """The model is gone. ``renamed``: another one goes by its name now, and may serve who asks again."""
        desk.route = ModelRoute(model_id=desk.model)  # whatever comes under this name is news
        for ticket in desk.tickets():
            again = Unavailable(f"The name '{ticket.name}' is another model's now; try again.", retry_after_s=1)
            self._refuse(ticket, again if renamed else ModelNotFound(ticket.name))
        self._returning.no_more(desk.model)
        for target in desk.targets.values():
            target.ready = False
        desk.reopen(self.rotation)
        if not desk.counts.in_flight:
            del self._desks[desk.model]
            for replica in desk.targets:
                self._forget(replica)

    def _forget(self, replica: ReplicaId) -> None:
        self._desk_of.pop(replica, None)
        self.rotation.forget(replica)

    def _suspect(self, replica: ReplicaId, desk: Desk, now_s: float) -> None:
        target = desk.targets.get(replica)
        if target is None or not target.ready:
            return  # nothing new goes there anyway
        strikes = self.rotation.suspect(replica, now_s)
        desk.reopen(self.rotation)
        if strikes >= DOUBTFUL and self.doubted is not None:
            self.doubted(replica, target.endpoint)

    def _trust(self, replica: ReplicaId, desk: Desk) -> None:
        if self.rotation.trust(replica):
            desk.reopen(self.rotation)
            self._serve(desk)

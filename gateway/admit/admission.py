"""Admission: a request gets a replica now, waits for one in a bounded queue, or is refused with the reason."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from random import Random

from gateway.admit.claims import Claim, Outcome, Seat
from gateway.admit.desk import Desk
from gateway.admit.judgement import full, refusal, too_late
from gateway.admit.refusals import displaced, refused_while_held
from gateway.admit.retries import MOST_PER_REQUEST
from gateway.admit.returning import Returning
from gateway.admit.rotation import Rotation
from gateway.admit.target import Target
from gateway.admit.ticket import Ticket, priority_of
from gateway.clock import Clock
from gateway.demand import Demand
from gateway.errors import GatewayError, HoldTimeout, ModelNotFound, Unavailable
from gateway.inquiry import Inquiry
from gateway.routing import Routes
from models.store.records import ModelRoute
from packers.types import ModelId, ReplicaId

Later = Callable[[Callable[[], None]], object]
DOUBTFUL = 3


def _soon(callback: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_soon(callback)


class Admission:
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
        self.routes = routes
        self.demand = demand
        self.clock = clock
        self.hold_limit = hold_limit
        self.queue_wait_s = queue_wait_s
        self.rotation = Rotation()
        self.doubted: Callable[[ReplicaId, str], None] | None = None
        self._workers = workers
        self._rng = rng or Random()
        self._later = later
        self._ids = itertools.count(1)
        self._in_flight = 0
        self._desks: dict[str, Desk] = {}
        self._desk_of: dict[ReplicaId, Desk] = {}
        self._waiting: dict[ModelId, Desk] = {}  # those with somebody in their queue
        self._tickets: dict[int, Ticket] = {}  # id() of the seat -> what it waits with, until it was told
        self._returning = Returning(demand, self._ids)
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

    def leave(self, seat: Seat) -> None:
        """The caller left while held; nothing is told to ``seat`` any more."""
        ticket = self._tickets.pop(id(seat), None)
        if ticket is None:
            return
        ticket.over = True
        if ticket.claim is not None:
            self.give_back(ticket.claim, Outcome.LEFT)  # it had a place already, but not heard of it yet
        elif ticket.error is None:
            self._unhold(ticket)

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

    # -- those who wait --------------------------------------------------------------------------------------------

    def _admit_or_hold(self, desk: Desk, name: str, inquiry: Inquiry, seat: Seat) -> Claim | None:
        now_s = self.clock.monotonic()
        retry = bool(inquiry.avoid)
        if retry and not desk.retries.take(desk.counts.in_flight):
            ticket = self._hold(desk, name, inquiry, seat, now_s)
            desk.retries.waiting[ticket.id] = ticket
            return None
        if retry and not desk.queue.count and (target := desk.pick(inquiry, self._rng)) is not None:
            claim = self._claim(desk, target, name, inquiry.peek.tokens, now_s)
            claim.retry = True
            return claim
        try:
            self._check(desk, inquiry, now_s)
        except GatewayError:
            desk.retries.going -= retry
            raise
        ticket = self._hold(desk, name, inquiry, seat, now_s)
        ticket.budgeted = retry
        desk.queue.add(ticket)
        return None

    def _check(self, desk: Desk, inquiry: Inquiry, now_s: float) -> None:
        """Raises what the request is refused with, when it is not to be held."""
        refused = refusal(desk, inquiry, now_s, self.clock.steady(), self.queue_wait_s)
        if isinstance(refused, HoldTimeout):
            self._returning.expect(desk.model, now_s + (desk.start_left_s(now_s) or 0.0), self.clock.steady())
            if desk.cold_since_s is None:
                desk.cold_since_s = now_s
        if refused is not None:
            raise refused
        if desk.queue.count < self.hold_limit or inquiry.avoid:
            return
        leaves = desk.queue.to_make_room(inquiry.caller, priority_of(inquiry))
        if leaves is None:
            raise full(desk, inquiry, now_s)
        self._refuse(leaves, displaced(desk.model, desk.start_left_s(now_s) if desk.cold else None))

    def _hold(self, desk: Desk, name: str, inquiry: Inquiry, seat: Seat, now_s: float) -> Ticket:
        cold, now_unix_s = desk.cold, self.clock.steady()
        deadline_s = inquiry.deadline_s if cold else min(inquiry.deadline_s, now_s + self.queue_wait_s)
        ticket = Ticket(
            id=next(self._ids),
            desk=desk,
            seat=seat,
            inquiry=inquiry,
            name=name,
            since_s=now_s,
            since_unix_s=now_unix_s,
            deadline_s=deadline_s,
            caller=inquiry.caller,
            priority=priority_of(inquiry),
            tokens=max(1, inquiry.peek.tokens),
            woken=cold,
            retry=bool(inquiry.avoid),
        )
        self._tickets[id(seat)] = ticket
        self._waiting[desk.model] = desk
        if cold and desk.cold_since_s is None:
            desk.cold_since_s = now_s
        self.demand.held(desk.model, ticket.id, now_unix_s, now_unix_s + deadline_s - now_s)
        return ticket

    def _serve(self, desk: Desk) -> None:
        """Whoever is next gets a place, as long as there are places; then retries go on as the budget allows."""
        if not desk.counts.waiting:
            return
        now_s = self.clock.monotonic()
        while desk.queue.count and desk.has_room:
            self._seat(desk.queue.pop(), now_s)
        while (ticket := desk.retries.next(desk.counts.in_flight)) is not None:
            ticket.budgeted = True
            if desk.queue.count or not self._seat(ticket, now_s):
                desk.queue.add(ticket)
        self._nobody_waits(desk)

    def _seat(self, ticket: Ticket, now_s: float) -> bool:
        """Give it a place, if there is one."""
        desk = ticket.desk
        target = desk.pick(ticket.inquiry, self._rng)
        if target is None:
            return False
        claim = ticket.claim = self._claim(desk, target, ticket.name, ticket.inquiry.peek.tokens, now_s)
        claim.waited_s, claim.woken, claim.retry = now_s - ticket.since_s, ticket.woken, ticket.budgeted
        # After the claim was counted: the controller never sees the request in neither place.
        self.demand.unheld(desk.model, ticket.id)
        self._later(partial(self._tell, ticket))
        return True

    def _tell(self, ticket: Ticket) -> None:
        if ticket.over:
            return  # it left in the meantime
        ticket.over = True
        del self._tickets[id(ticket.seat)]
        if ticket.claim is not None:
            ticket.seat.admitted(ticket.claim)
        elif ticket.error is not None:
            ticket.seat.refused(ticket.error)

    def _refuse(self, ticket: Ticket, error: GatewayError) -> None:
        ticket.error = error
        self._unhold(ticket)
        self._later(partial(self._tell, ticket))

    def _unhold(self, ticket: Ticket) -> None:
        desk = ticket.desk
        desk.queue.remove(ticket)
        desk.retries.waiting.pop(ticket.id, None)
        desk.retries.going -= ticket.budgeted
        ticket.budgeted = False
        self.demand.unheld(desk.model, ticket.id)
        self._nobody_waits(desk)

    def _nobody_waits(self, desk: Desk) -> None:
        """Notes it, if that is so."""
        if desk.queue.count or desk.retries.waiting:
            return
        self._waiting.pop(desk.model, None)
        if desk.model not in self._returning:
            desk.cold_since_s = None

    def _tell_failure(self, desk: Desk) -> None:
        """A start failed: those who waited for it need not wait on."""
        if not desk.cold or desk.route.failure is None:
            return
        now_unix_s = self.clock.steady()
        for ticket in desk.tickets():
            failed = refused_while_held(desk.route.failure, ticket.since_unix_s, now_unix_s)
            if failed is not None:
                self._refuse(ticket, failed)

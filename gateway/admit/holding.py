"""Those who are held: a bounded queue at each desk, and who has waited for long enough, or for nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from random import Random

from gateway.admit.claims import Claim, Outcome, Seat
from gateway.admit.desk import Desk
from gateway.admit.judgement import full, refusal
from gateway.admit.refusals import displaced, refused_while_held
from gateway.admit.returning import Returning
from gateway.admit.target import Target
from gateway.admit.ticket import Ticket, priority_of
from gateway.clock import Clock
from gateway.demand import Demand
from gateway.errors import GatewayError, HoldTimeout
from gateway.inquiry import Inquiry
from packers.types import ModelId

Later = Callable[[Callable[[], None]], object]


class Holding:
    """Tickets from when a request is held until it, from the event loop, was told of its place or its refusal."""

    def __init__(
        self, demand: Demand, clock: Clock, hold_limit: int, queue_wait_s: float, rng: Random, later: Later
    ) -> None:
        self.demand = demand
        self.clock = clock
        self.hold_limit = hold_limit
        self.queue_wait_s = queue_wait_s
        self._rng = rng
        self._later = later
        self._ids = itertools.count(1)
        self._waiting: dict[ModelId, Desk] = {}  # those with somebody in their queue
        self._tickets: dict[int, Ticket] = {}  # id() of the seat -> what it waits with, until it was told
        self._returning = Returning(demand, self._ids)

    def _claim(self, desk: Desk, target: Target, name: str, tokens: int, now_s: float) -> Claim:
        raise NotImplementedError

    def give_back(self, claim: Claim, outcome: Outcome) -> None:
        raise NotImplementedError

    # -- in ---------------------------------------------------------------------------------------------------------

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

    # -- and out ----------------------------------------------------------------------------------------------------

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

"""What everything that runs on a replica has to do with its place there: waited for, taken, sought anew, given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.admit import Claim, Outcome
from gateway.errors import EngineLost, GatewayError
from gateway.metering.metered import Metered
from gateway.plane.paying import Paying
from gateway.routing import is_cold

if TYPE_CHECKING:
    from gateway.accounts import Account
    from gateway.inquiry import Inquiry


class Seated(Metered, Paying):
    """A seat of admission's, too. ``_send`` goes on with its place, at once or when it has waited for one.

    Defaults of the class: a request sets only what it comes to need.
    """

    _held_since_s: float | None = None
    _starting = False  # what it is held for is a start, not a busy replica

    def _send(self, claim: Claim) -> None:
        """It has its place: to the engine."""
        raise NotImplementedError

    @property
    def _is_over(self) -> bool:
        raise NotImplementedError

    def _begin_anew(self) -> None:
        """What the engine that was lost had said counts no more."""

    def comment(self) -> None:
        """While it is held: a sign of life, where there is room for one."""

    @property
    def account(self) -> Account | None:
        return None if self._inquiry is None else self._inquiry.account

    @property
    def claim(self) -> Claim | None:
        return self._claim

    def _admit(self, inquiry: Inquiry) -> None:
        claim = self._plane.admission.admit(inquiry, self)
        if claim is not None:
            self._send(claim)
            return
        self.exchange.held = True
        self._held_since_s = self._plane.now()
        self._starting = is_cold(self._plane.admission.find(self.exchange.model))
        self._plane.held.add(self)

    def admitted(self, claim: Claim) -> None:
        """A held request has its place."""
        self._note_wait(woken=claim.woken)
        if self._is_over:
            self._plane.admission.give_back(claim, Outcome.LEFT)
            return
        self._send(claim)

    def refused(self, error: GatewayError) -> None:
        self._note_wait(woken=self._starting)
        self.fail(error)

    def _note_wait(self, *, woken: bool) -> None:
        if self._held_since_s is None:
            return
        waited_s, self._held_since_s = self._plane.now() - self._held_since_s, None
        if woken:
            self.exchange.wake_s += waited_s
        else:
            self.exchange.queue_s += waited_s
        self._plane.held.discard(self)

    def _leave_queue(self) -> None:
        """It is held, and not to wait any longer."""
        self._plane.admission.leave(self)
        self._note_wait(woken=self._starting)

    def _again(self, claim: Claim, inquiry: Inquiry, outcome: Outcome) -> None:
        """Its engine was lost before the caller had anything of it: it may go elsewhere (promise R2)."""
        exchange, recorder = self.exchange, self._plane.recorder
        again = self._plane.admission.may_retry(claim, exchange.retries)
        self._land(outcome)
        if not again:
            message = f"The engine of the model '{claim.model}' went away {exchange.retries + 1} times; try again."
            self.fail(EngineLost(message, retry_after_s=1))
            return
        exchange.retries += 1
        self._begin_anew()
        if recorder is not None:
            recorder.left(self)
            recorder.note(self, self.account)  # where it was is known to nobody else until it is over
        inquiry.avoid = (*inquiry.avoid, claim.replica)
        try:
            self._admit(inquiry)
        except GatewayError as error:
            self.fail(error)

    def _land(self, outcome: Outcome) -> None:
        """Its place is free again."""
        claim, self._claim = self._claim, None
        if claim is not None:
            target = claim.target
            self._plane.admission.give_back(claim, outcome)
            if self._hold is not None and target is not None:
                self._ran(claim.shared_s, target)

"""What everything that runs on a replica has to do with its caller's limits: reserved before, settled after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gateway.errors import BudgetExceeded, GatewayError, LimitReached, Unexpected
from gateway.limits.allowance import Allowance
from gateway.limits.needs import need_of

if TYPE_CHECKING:
    from gateway.admit import Claim
    from gateway.exchange import Exchange
    from gateway.inquiry import Inquiry
    from gateway.limits.limiter import Hold
    from gateway.plane.plane import Plane

log = structlog.get_logger(__name__)


class Paying:
    """A seat of the limiter's. ``_reserve`` goes on to ``_admit``, at once or when the store has said yes.

    Defaults of the class: a request sets only what it comes to need.
    """

    _plane: Plane
    exchange: Exchange
    _inquiry: Inquiry | None = None
    _claim: Claim | None = None
    _allowance: Allowance | None = None
    _asked_s = 0.0  # when the store was asked

    def _admit(self, inquiry: Inquiry) -> None:
        """Looks for a place. Raises GatewayError."""
        raise NotImplementedError

    def fail(self, error: GatewayError) -> None:
        """The answer is this error."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Its engine need not go on."""
        raise NotImplementedError

    def _reserve(self, inquiry: Inquiry) -> None:
        """Raises LimitReached, StoreUnavailable, and what ``_admit`` raises."""
        limiter = self._plane.limiter
        if limiter is not None:
            route = self._plane.admission.find(self.exchange.model)
            self._allowance = Allowance(limiter, need_of(inquiry.account, route, inquiry))
            if not self._allowance.take(self):
                self._asked_s = self._plane.now()
                return
        self._enter(inquiry)

    def granted(self, hold: Hold) -> None:
        """The store's word: it is within its limits."""
        inquiry, allowance = self._inquiry, self._allowance
        assert inquiry is not None
        assert allowance is not None
        allowance.granted(hold)
        self.exchange.auth_s += self._plane.now() - self._asked_s
        try:
            self._enter(inquiry)
        except GatewayError as error:
            self.fail(error)
        except Exception:
            log.exception("unexpected error", request_id=self.exchange.request_id)
            self.fail(Unexpected(self.exchange.request_id))

    def not_granted(self, error: GatewayError) -> None:
        assert self._allowance is not None
        self._allowance.not_granted()
        self.exchange.auth_s += self._plane.now() - self._asked_s
        self.fail(error)

    def _enter(self, inquiry: Inquiry) -> None:
        """It may: from here on its model knows of it."""
        admission = self._plane.admission
        admission.arrived(admission.find(self.exchange.model))
        self._admit(inquiry)

    def bill(self, now_s: float) -> None:
        """It runs on: a budget that is used up meanwhile ends it."""
        claim, allowance = self._claim, self._allowance
        if claim is not None and allowance is not None and not allowance.bill(claim, now_s):
            self._stop()
            self.fail(BudgetExceeded(f"A budget for the model '{claim.model}' is used up; the answer ends here."))

    def _is_charged(self, error: GatewayError) -> bool:
        """Whether its caller pays for what came to this error: for what was passed on or ran, and for own mistakes."""
        if self.exchange.first_byte_s is not None or isinstance(error, BudgetExceeded):
            return True
        return error.status < 500 and error.status != LimitReached.status

    @property
    def limit_lines(self) -> bytes:
        """Header lines that tell of the caller's limits."""
        return b"" if self._allowance is None else self._allowance.lines()

"""What everything that runs on a replica has to do with its caller's limits: reserved before, settled after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gateway.errors import BudgetExceeded, GatewayError, LimitReached, Unexpected
from gateway.limits.needs import need_of, used_by

if TYPE_CHECKING:
    from gateway.admit import Claim
    from gateway.admit.target import Target
    from gateway.exchange import Exchange
    from gateway.inquiry import Inquiry
    from gateway.limits.limiter import Hold, Limiter
    from gateway.limits.needs import Need
    from gateway.plane.plane import Plane
    from models.store.records import ModelRoute

MICRO = 1e6
GIB = 1 << 30

log = structlog.get_logger(__name__)


class Paying:
    """A seat of the limiter's. ``_reserve`` goes on to ``_admit``, at once or when the store has said yes.

    Defaults of the class: a request sets only what it comes to need.
    """

    _plane: Plane
    exchange: Exchange
    _inquiry: Inquiry | None = None
    _claim: Claim | None = None
    _limiter: Limiter | None = None  # None: nobody is limited, or it did not come so far as to ask
    _need: Need | None = None
    _hold: Hold | None = None  # what it was allowed
    _asking = False  # the store is asked
    _asked_s = 0.0  # since when
    _gpu_us = 0.0  # of runs that are over
    _gib_us = 0.0

    def _admit(self, inquiry: Inquiry) -> None:
        """Looks for a place. Raises GatewayError."""
        raise NotImplementedError

    def fail(self, error: GatewayError) -> None:
        """The answer is this error."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Its engine need not go on."""
        raise NotImplementedError

    def _reserve(self, inquiry: Inquiry, route: ModelRoute) -> None:
        """Raises LimitReached, StoreUnavailable, and what ``_admit`` raises."""
        limiter = self._plane.limiter
        if limiter is not None:
            self._limiter = limiter
            self._need = need = need_of(inquiry.account, route, inquiry)
            self._hold = limiter.reserve(need)
            if self._hold is None:
                self._asking, self._asked_s = True, self._plane.now()
                limiter.ask(need, self)
                return
        self._enter(inquiry, route)

    def granted(self, hold: Hold) -> None:
        """The store's word: it is within its limits."""
        inquiry = self._inquiry
        assert inquiry is not None
        self._hold, self._asking = hold, False
        self.exchange.auth_s += self._plane.now() - self._asked_s
        try:
            self._enter(inquiry, self._plane.admission.find(self.exchange.model))
        except GatewayError as error:
            self.fail(error)
        except Exception:
            log.exception("unexpected error", request_id=self.exchange.request_id)
            self.fail(Unexpected(self.exchange.request_id))

    def not_granted(self, error: GatewayError) -> None:
        self._asking = False
        self.exchange.auth_s += self._plane.now() - self._asked_s
        self.fail(error)

    def _enter(self, inquiry: Inquiry, route: ModelRoute) -> None:
        """It may: from here on its model knows of it."""
        self._plane.admission.arrived(route)
        self._admit(inquiry)

    def _ran(self, shared_s: float, target: Target) -> None:
        """A run is over: ``shared_s`` of that replica were its part."""
        self._gpu_us += shared_s * target.gpu_share * MICRO
        self._gib_us += shared_s * target.memory_bytes / GIB * MICRO

    def bill(self, now_s: float) -> None:
        """It runs on: its budgets hold what it has had so far. One that is used up ends it."""
        claim, hold, limiter = self._claim, self._hold, self._limiter
        if claim is None or claim.target is None or hold is None or limiter is None or not hold.by_time:
            return
        target = claim.target
        shared_s = target.share_until(now_s) - claim.shared_s
        gpu_us = self._gpu_us + shared_s * target.gpu_share * MICRO
        gib_us = self._gib_us + shared_s * target.memory_bytes / GIB * MICRO
        if not limiter.extend(hold, round(gpu_us), round(gib_us)):
            self._stop()
            self.fail(BudgetExceeded(f"A budget for the model '{claim.model}' is used up; the answer ends here."))

    def _settle(self, limiter: Limiter, *, answered: bool) -> None:
        """Last, and once. ``answered``: not with an error that is no fault of the caller's."""
        if self._asking:
            self._asking = False
            limiter.leave(self)
        if self._hold is not None:
            ran = answered and self.exchange.replica is not None
            limiter.settle(self._hold, used_by(self.exchange.usage, self._gpu_us, self._gib_us, answered=ran))

    def _is_charged(self, error: GatewayError) -> bool:
        """Whether its caller pays for what came to this error: for what was passed on or ran, and for own mistakes."""
        if self.exchange.first_byte_s is not None or isinstance(error, BudgetExceeded):
            return True
        return error.status < 500 and error.status != LimitReached.status

    @property
    def limit_lines(self) -> bytes:
        """Header lines that tell of the caller's limits."""
        limiter, hold, need = self._limiter, self._hold, self._need
        if limiter is None or need is None:
            return b""
        return limiter.headers(need.account, need.route) if hold is None else limiter.told(hold.plan)

"""One held request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.admit.claims import Claim, Seat
from gateway.errors import GatewayError
from gateway.inquiry import Caller, Inquiry

if TYPE_CHECKING:
    from gateway.admit.desk import Desk


@dataclass(slots=True, eq=False)
class Ticket:
    """Waits until it has a claim or an error; ``over`` once that was told to its seat, or the seat left.

    ``woken``: it waits for a start. ``retry``: a replica was lost, and it counts against the budget of retries.
    ``budgeted``: it has its part of that budget.
    """

    id: int  # later ones are higher
    desk: Desk
    seat: Seat
    inquiry: Inquiry
    name: str  # as the caller calls the model
    since_s: float  # monotonic
    since_unix_s: float
    deadline_s: float  # monotonic
    caller: Caller
    priority: int
    tokens: int
    woken: bool
    retry: bool = False
    budgeted: bool = False
    claim: Claim | None = None
    error: GatewayError | None = None
    over: bool = False


def priority_of(inquiry: Inquiry) -> int:
    """As asked for, but no higher than its caller may."""
    return min(inquiry.priority, inquiry.caller.priority)

"""Whether a request that has no place yet may wait for one. Pure."""

from __future__ import annotations

from gateway.admit import refusals
from gateway.admit.desk import Desk
from gateway.admit.ticket import Ticket, priority_of
from gateway.errors import GatewayError
from gateway.inquiry import Inquiry


def refusal(desk: Desk, inquiry: Inquiry, now_s: float, now_unix_s: float, queue_wait_s: float) -> GatewayError | None:
    """Why it need not be held, None when it may be.

    1. A start failed, and there is no other attempt yet.
    2. The model will not be ready in time.
    3. It will not be its turn in time. A retry was let in before, and waits as long as its caller does.
    """
    left_s = inquiry.deadline_s - now_s
    if desk.cold:
        failed = refusals.refused_at_once(desk.route.failure, now_unix_s)
        if failed is not None:  # 1
            return failed
        start_s = desk.start_left_s(now_s)
        if left_s <= 0.0:
            return refusals.not_ready_in_time(desk.model, 0.0, start_s)
        return refusals.starts_too_late(desk.model, start_s) if start_s is not None and start_s > left_s else None  # 2
    if inquiry.avoid:
        return refusals.lost_for_good(desk.model, 0.0) if left_s <= 0.0 else None
    if left_s <= 0.0:
        return refusals.not_free_in_time(desk.model, 0.0, None)
    turn_s = desk.turn_left_s(inquiry.caller, priority_of(inquiry))
    if turn_s is not None and turn_s > min(left_s, queue_wait_s):  # 3
        return refusals.busy_too_long(desk.model, turn_s)
    return None


def too_late(ticket: Ticket, now_s: float) -> GatewayError:
    """What a held request is told whose time is over."""
    desk, waited_s = ticket.desk, ticket.deadline_s - ticket.since_s
    if ticket.retry and not desk.cold:
        return refusals.lost_for_good(desk.model, waited_s)
    if desk.open:
        wait_s = desk.turn_left_s(ticket.caller, ticket.priority)
        return refusals.not_free_in_time(desk.model, waited_s, wait_s)
    return refusals.not_ready_in_time(desk.model, waited_s, desk.start_left_s(now_s) if desk.cold else None)


def full(desk: Desk, inquiry: Inquiry, now_s: float) -> GatewayError:
    """What one is told for whom there is no room among those who wait."""
    if desk.cold:
        return refusals.queue_full(desk.model, desk.queue.count, cold=True, retry_after_s=desk.start_left_s(now_s))
    turn_s = desk.turn_left_s(inquiry.caller, priority_of(inquiry))
    return refusals.queue_full(desk.model, desk.queue.count, cold=False, retry_after_s=turn_s)

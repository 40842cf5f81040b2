"""The shapes of decisions in the admin API's answers. Times are Unix seconds."""

from __future__ import annotations

import msgspec

from models.store.records import DecisionRecord


class OutcomeView(msgspec.Struct, kw_only=True):
    """How a decision came out. ``action``: ready | asleep | stopped | failed | died. ``took_s``: what the decision's
    ``estimate_s`` was an estimate of."""

    id: str
    action: str
    at_unix_s: float
    took_s: float | None
    reason: str


class DecisionView(DecisionRecord, frozen=True):
    """``outcome``: null while it is under way, and for what takes no time."""

    outcome: OutcomeView | None = None


class DecisionList(msgspec.Struct, kw_only=True):
    """Newest first; with ``after`` oldest first.

    ``next_before``: give it as ``before`` for the next page; null when this was the last. ``next_after``: give it as
    ``after`` for what is decided later.
    """

    object: str = "list"
    data: tuple[DecisionView, ...]
    next_before: str | None
    next_after: str


DOCUMENTS = (DecisionView, DecisionList)

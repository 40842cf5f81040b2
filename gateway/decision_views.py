"""Decisions put together with how they came out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.decision_documents import DecisionList, DecisionView, OutcomeView
from models.store.records import DecisionRecord

BEGINNING = "0-0"


def outcomes(records: Iterable[DecisionRecord]) -> dict[str, DecisionRecord]:
    """Key of a decision -> what came of it."""
    return {record.of: record for record in records if record.of}


def still_open(records: Iterable[DecisionRecord], known: Mapping[str, DecisionRecord]) -> set[str]:
    """Keys of decisions that take time and of which nothing is known yet."""
    return {
        record.key
        for record in records
        if record.key and not record.of and "estimate_s" in record.details and record.key not in known
    }


def view(record: DecisionRecord, known: Mapping[str, DecisionRecord]) -> DecisionView:
    came = known.get(record.key) if record.key else None
    outcome = None
    if came is not None:
        took_s = came.details.get("took_s")
        outcome = OutcomeView(
            id=came.id, action=came.action, at_unix_s=came.at_unix_s, took_s=took_s, reason=came.reason
        )
    return DecisionView(**msgspec.structs.asdict(record), outcome=outcome)


def newest_first(
    records: Sequence[DecisionRecord], limit: int, known: Mapping[str, DecisionRecord] | None = None
) -> DecisionList:
    """``known``: outcomes that are not among ``records``."""
    came = {**(known or {}), **outcomes(records)}
    return DecisionList(
        data=tuple(view(record, came) for record in records),
        next_before=records[-1].id if len(records) == limit else None,
        next_after=records[0].id if records else BEGINNING,
    )


def oldest_first(records: Sequence[DecisionRecord], after: str) -> DecisionList:
    """``after``: up to where the stream was read."""
    came = outcomes(records)
    return DecisionList(data=tuple(view(record, came) for record in records), next_before=None, next_after=after)

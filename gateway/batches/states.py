"""How a batch goes from one state to the next: functions of its record, nothing else.

validating -> in_progress | failed; in_progress -> finalizing -> completed | expired; any of the first three ->
cancelling -> cancelled. One whose key is gone fails.
"""

from __future__ import annotations

import msgspec

from gateway.batches.lines import Checked
from gateway.batches.records import OPEN, BatchRecord, Counts, LineError

CANCELLABLE = ("validating", "in_progress", "finalizing")


def checked(record: BatchRecord, found: Checked, now_unix_s: float) -> BatchRecord | None:
    if record.status != "validating":
        return None
    now = int(now_unix_s)
    if found.errors:
        return msgspec.structs.replace(record, status="failed", failed_at=now, errors=found.errors)
    counts = Counts(total=found.total)
    return msgspec.structs.replace(record, status="in_progress", in_progress_at=now, counts=counts, model=found.model)


def counted(record: BatchRecord, completed: int, failed: int) -> BatchRecord | None:
    counts = msgspec.structs.replace(record.counts, completed=completed, failed=failed)
    return None if counts == record.counts else msgspec.structs.replace(record, counts=counts)


def finalizing(record: BatchRecord, now_unix_s: float, *, expired: bool) -> BatchRecord | None:
    """All lines are done, or no time is left for the others. One that is being cancelled stays so."""
    if record.status != "in_progress":
        return None
    now = int(now_unix_s)
    expired_at = now if expired else None
    return msgspec.structs.replace(record, status="finalizing", finalizing_at=now, expired_at=expired_at)


def cancelling(record: BatchRecord, now_unix_s: float) -> BatchRecord | None:
    if record.status not in CANCELLABLE:
        return None
    return msgspec.structs.replace(record, status="cancelling", cancelling_at=int(now_unix_s))


def ended(record: BatchRecord, completed: int, failed: int, now_unix_s: float) -> BatchRecord | None:
    """Its files are there: ``completed`` lines in one, ``failed`` lines in the other."""
    if record.status not in ("finalizing", "cancelling"):
        return None
    now = int(now_unix_s)
    record = msgspec.structs.replace(
        record,
        counts=msgspec.structs.replace(record.counts, completed=completed, failed=failed),
        has_output=completed > 0,
        has_errors=failed > 0,
    )
    if record.status == "cancelling":
        return msgspec.structs.replace(record, status="cancelled", cancelled_at=now)
    if record.expired_at is not None:
        return msgspec.structs.replace(record, status="expired")
    return msgspec.structs.replace(record, status="completed", completed_at=now)


def failed(record: BatchRecord, code: str, message: str, now_unix_s: float) -> BatchRecord | None:
    if record.status not in OPEN:
        return None
    errors = (*record.errors, LineError(code=code, message=message))
    return msgspec.structs.replace(record, status="failed", failed_at=int(now_unix_s), errors=errors)

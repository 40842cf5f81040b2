"""Failed starts and crashes: what callers are told, and when the next attempt may be made.

1. A start that failed is tried again after 1 s, 2 s, 4 s ... 60 s, but not at all where only a change of the card or
   of the model's files can help: damaged weights, and a class that raises while it loads.
2. A replica that dies is replaced at once. One that dies within STEADY_S of becoming ready, again and again, is in a
   crash loop: after CRASHES_AT_ONCE of them the next start waits as above, after CRASHES_MAX there is none until the
   card changes or an operator wakes the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.runtimes.protocol import Fault
from models.store.records import Failure
from packers.types import ModelId

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
STEADY_S = 60.0
CRASHES_AT_ONCE = 2
CRASHES_MAX = 8
# Trying again changes nothing: it is the files, or the code, that have to change.
LASTING: frozenset[Fault] = frozenset({"weights", "code"})


@dataclass(slots=True)
class _Record:
    failure: Failure | None = None
    attempts: int = 0
    crashes: int = 0
    content: str = ""  # what its source held when it failed for good


class FailureBook:
    """Forgotten when the card or the source changes, and when an operator wakes the model."""

    def __init__(self) -> None:
        self._records: dict[ModelId, _Record] = {}

    def get(self, model: ModelId) -> Failure | None:
        record = self._records.get(model)
        return None if record is None else record.failure

    def retry_at(self, model: ModelId) -> float:
        """Not before this time (Unix); infinite where trying again is of no use."""
        failure = self.get(model)
        if failure is None or failure.code == "insufficient_gpu_memory":
            return 0.0
        return float("inf") if failure.permanent else failure.retry_at_unix_s

    def failed(
        self, model: ModelId, message: str, now: float, *, fault: Fault = "other", content: str | None = None
    ) -> Failure:
        """A start or a wake failed. ``content``: what its source held, where the engine has looked at it."""
        record = self._records.setdefault(model, _Record())
        record.attempts += 1
        permanent = fault in LASTING and content is not None
        record.content = content or ""
        record.failure = Failure(
            message=message,
            code="model_start_failed",
            at_unix_s=now,
            retry_at_unix_s=now if permanent else now + _wait_s(record.attempts),
            permanent=permanent,
            fault=fault,
            attempts=record.attempts,
        )
        return record.failure

    def crashed(
        self, model: ModelId, message: str, now: float, *, ready_for_s: float, fault: Fault = "other"
    ) -> Failure | None:
        """A replica that served has died; None when it may be replaced at once."""
        record = self._records.setdefault(model, _Record())
        record.crashes = 1 if ready_for_s >= STEADY_S else record.crashes + 1
        if record.crashes <= CRASHES_AT_ONCE:
            return None
        permanent = record.crashes >= CRASHES_MAX
        wait_s = _wait_s(record.crashes - CRASHES_AT_ONCE)
        said = f"it crashed {record.crashes} times in a row, each within {STEADY_S:.0f} s of its start: {message}"
        record.failure = Failure(
            message=said,
            code="model_keeps_crashing",
            at_unix_s=now,
            retry_at_unix_s=now if permanent else now + wait_s,
            permanent=permanent,
            fault=fault,
            attempts=record.crashes,
        )
        return record.failure

    def refused(self, model: ModelId, message: str, now: float) -> bool:
        """Note that the model can never fit; True when that is news."""
        record = self._records.setdefault(model, _Record())
        known = record.failure
        if known is not None and known.permanent and known.message == message:
            return False
        record.failure = Failure(
            message=message,
            code="insufficient_gpu_memory",
            at_unix_s=now,
            retry_at_unix_s=now,
            permanent=True,
            fault="memory",
        )
        return True

    def served(self, model: ModelId) -> None:
        """A replica is ready: starts work again. Whether it stays is for its crashes to show."""
        record = self._records.get(model)
        if record is not None:
            record.failure, record.attempts = None, 0

    def forget(self, model: ModelId) -> None:
        self._records.pop(model, None)

    def lasting(self) -> dict[ModelId, str]:
        """The models that wait for their source to change -> what it held when they failed."""
        return {
            model: record.content
            for model, record in self._records.items()
            if record.failure is not None and record.failure.permanent and record.failure.fault in LASTING
        }


def _wait_s(attempts: int) -> float:
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempts - 1, 16))

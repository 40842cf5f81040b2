"""Failed starts: what callers are told, and when the next attempt may be made."""

from __future__ import annotations

from models.store.records import Failure
from packers.types import ModelId

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0


class FailureBook:
    """Exponential back-off per model: 1 s, 2 s, 4 s ... 60 s; forgotten when a start succeeds or the card changes."""

    def __init__(self) -> None:
        self._failures: dict[ModelId, Failure] = {}
        self._attempts: dict[ModelId, int] = {}

    def get(self, model: ModelId) -> Failure | None:
        return self._failures.get(model)

    def retry_at(self, model: ModelId) -> float:
        failure = self._failures.get(model)
        return 0.0 if failure is None or failure.permanent else failure.retry_at_unix_s

    def failed(self, model: ModelId, message: str, now: float) -> Failure:
        attempts = self._attempts[model] = self._attempts.get(model, 0) + 1
        wait_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempts - 1))
        failure = Failure(message=message, code="model_start_failed", at_unix_s=now, retry_at_unix_s=now + wait_s)
        self._failures[model] = failure
        return failure

    def refused(self, model: ModelId, message: str, now: float) -> bool:
        """Note that the model can never fit; True when that is news."""
        known = self._failures.get(model)
        if known is not None and known.permanent and known.message == message:
            return False
        self._failures[model] = Failure(
            message=message, code="insufficient_gpu_memory", at_unix_s=now, retry_at_unix_s=now, permanent=True
        )
        return True

    def forget(self, model: ModelId) -> None:
        self._failures.pop(model, None)
        self._attempts.pop(model, None)

"""Failed starts and crashes: what callers are told, when the next attempt may be made, and where it had better not be.

1. A start that failed is tried again after 1 s, 2 s, 4 s ... 60 s, but not at all where only a change of the card or
   of the model's files can help: damaged weights, and a class that raises while it loads.
2. It is tried elsewhere: the GPU where it failed is avoided for AVOID_S, its whole node when the weights could not be
   read there or when it failed on two of its GPUs. To avoid is a wish: where nothing else will do, it is tried there.
3. The first failure is not told to callers while another place is left to try: they go on waiting for that. They hear
   of the next one, or of the first when no attempt has begun TOLD_AFTER_S after it could have.
4. A replica that dies is replaced at once. One that dies within STEADY_S of becoming ready, again and again, is in a
   crash loop: after CRASHES_AT_ONCE of them the next start waits as above, after CRASHES_MAX there is none until the
   card changes or an operator wakes the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from models.runtimes.protocol import Fault
from models.store.records import Failure
from packers.types import Gpu, GpuId, ModelId, NodeId

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
STEADY_S = 60.0
CRASHES_AT_ONCE = 2
CRASHES_MAX = 8
AVOID_S = 600.0
TOLD_AFTER_S = 5.0
NO_ROOM = "insufficient_gpu_memory"
# Trying again changes nothing: it is the files, or the code, that have to change.
LASTING: frozenset[Fault] = frozenset({"weights", "code"})


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a start failed. ``whole``: no GPU of the node will do better."""

    node: NodeId
    at_s: float
    whole: bool


@dataclass(slots=True)
class _Record:
    failure: Failure | None = None
    attempts: int = 0
    crashes: int = 0
    content: str = ""  # what its source held when it failed for good
    places: dict[GpuId, _Place] = field(default_factory=dict)


class FailureBook:
    """Forgotten when the card or the source changes, and when an operator wakes the model."""

    def __init__(self) -> None:
        self._records: dict[ModelId, _Record] = {}
        self._untold: set[ModelId] = set()

    def get(self, model: ModelId) -> Failure | None:
        """The last one, told or not."""
        record = self._records.get(model)
        return None if record is None else record.failure

    def told(self, model: ModelId) -> Failure | None:
        """What callers are to hear."""
        return None if model in self._untold else self.get(model)

    def tell(self, now: float, trying: Callable[[ModelId], bool]) -> set[ModelId]:
        """The models of which callers are to hear from now on. ``trying``: whether a replica of it is starting."""
        if not self._untold:
            return set()
        due = {model for model in self._untold if self._is_due(model, now) and not trying(model)}
        self._untold -= due
        return due

    def _is_due(self, model: ModelId, now: float) -> bool:
        failure = self.get(model)
        return failure is None or now >= failure.retry_at_unix_s + TOLD_AFTER_S

    def retry_at(self, model: ModelId) -> float:
        """Not before this time (Unix); infinite where trying again is of no use."""
        failure = self.get(model)
        if failure is None or failure.code == NO_ROOM:
            return 0.0
        return float("inf") if failure.permanent else failure.retry_at_unix_s

    def failed_somewhere(self, model: ModelId) -> bool:
        """There are places that it may have to avoid."""
        record = self._records.get(model)
        return record is not None and bool(record.places)

    def avoided(self, model: ModelId, gpus: Iterable[Gpu], now: float) -> tuple[GpuId, ...]:
        """Of these GPUs, those on which it had better not be started. Sorted."""
        record = self._records.get(model)
        if record is None or not record.places:
            return ()
        lately = {gpu: place for gpu, place in record.places.items() if now < place.at_s + AVOID_S}
        tried = Counter(place.node for place in lately.values())
        nodes = {place.node for place in lately.values() if place.whole or tried[place.node] > 1}
        return tuple(sorted(gpu.id for gpu in gpus if gpu.id in lately or gpu.node in nodes))

    def failed_on(self, model: ModelId, gpu: Gpu, now: float, fault: Fault) -> None:
        """A start or a wake of it failed there. To be noted before ``failed``."""
        record = self._records.setdefault(model, _Record())
        record.places[gpu.id] = _Place(gpu.node, now, whole=fault == "weights")

    def failed(
        self,
        model: ModelId,
        message: str,
        now: float,
        *,
        fault: Fault = "other",
        content: str | None = None,
        elsewhere: bool = False,
    ) -> Failure:
        """A start or a wake failed. ``content``: what its source held, where the engine has looked at it.
        ``elsewhere``: there is a place where it was not tried yet."""
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
        untold = elsewhere and not permanent and record.attempts == 1
        (self._untold.add if untold else self._untold.discard)(model)
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
        self._untold.discard(model)
        return record.failure

    def refused(self, model: ModelId, message: str, now: float) -> bool:
        """Note that the model can never fit; True when that is news."""
        record = self._records.setdefault(model, _Record())
        known = record.failure
        if known is not None and known.permanent and known.message == message:
            return False
        record.failure = Failure(
            message=message,
            code=NO_ROOM,
            at_unix_s=now,
            retry_at_unix_s=now,
            permanent=True,
            fault="memory",
        )
        self._untold.discard(model)
        return True

    def room_came(self) -> None:
        """There are GPUs that were not there before: nobody is refused for the size of the others any more."""
        for record in self._records.values():
            if record.failure is not None and record.failure.code == NO_ROOM:
                record.failure = None

    def served(self, model: ModelId, gpu: GpuId | None = None) -> None:
        """A replica is ready there: starts work again. Whether it stays is for its crashes to show."""
        record = self._records.get(model)
        if record is not None:
            record.failure, record.attempts = None, 0
            if gpu is not None:
                record.places.pop(gpu, None)
            self._untold.discard(model)

    def forget(self, model: ModelId) -> None:
        self._records.pop(model, None)
        self._untold.discard(model)

    def lasting(self) -> dict[ModelId, str]:
        """The models that wait for their source to change -> what it held when they failed."""
        return {
            model: record.content
            for model, record in self._records.items()
            if record.failure is not None and record.failure.permanent and record.failure.fault in LASTING
        }


def _wait_s(attempts: int) -> float:
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempts - 1, 16))

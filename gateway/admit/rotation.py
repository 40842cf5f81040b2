"""Which replicas get nothing new for now, because of what requests met there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from packers.types import ReplicaId

FIRST_SUSPICION_S = 1.0
LONGEST_SUSPICION_S = 8.0


@dataclass(slots=True)
class Suspicion:
    """``strikes``: failures in a row, those within one suspicion counted once."""

    until_s: float
    strikes: int
    out: bool = True
    ejected: bool = False  # until a probe is answered, however long that takes


class Rotation:
    """Times are of the monotonic clock."""

    def __init__(self) -> None:
        self._suspicions: dict[ReplicaId, Suspicion] = {}

    def __len__(self) -> int:
        """How many have something held against them."""
        return len(self._suspicions)

    def __iter__(self) -> Iterator[ReplicaId]:
        return iter(self._suspicions)

    def is_out(self, replica: ReplicaId) -> bool:
        suspicion = self._suspicions.get(replica)
        return suspicion is not None and suspicion.out

    def is_ejected(self, replica: ReplicaId) -> bool:
        suspicion = self._suspicions.get(replica)
        return suspicion is not None and suspicion.ejected

    def suspect(self, replica: ReplicaId, now_s: float) -> int:
        """It broke a connection: out until the suspicion ends; each lasts twice as long. Its strikes so far.

        What else breaks while it is out was under way already, and says nothing new.
        """
        suspicion = self._suspicions.get(replica)
        if suspicion is None:
            suspicion = self._suspicions[replica] = Suspicion(now_s, 0, out=False)
        if not suspicion.out:
            suspicion.strikes += 1
            length_s = min(LONGEST_SUSPICION_S, FIRST_SUSPICION_S * 2.0 ** min(suspicion.strikes - 1, 30))
            suspicion.until_s, suspicion.out = now_s + length_s, True
        return suspicion.strikes

    def trust(self, replica: ReplicaId) -> bool:
        """It answered. True when it was out."""
        suspicion = self._suspicions.pop(replica, None)
        return suspicion is not None and suspicion.out

    def eject(self, replica: ReplicaId, now_s: float) -> None:
        """Out until ``readmit`` or ``trust``, however long that takes."""
        suspicion = self._suspicions.setdefault(replica, Suspicion(now_s, 1))
        suspicion.out = suspicion.ejected = True

    def readmit(self, replica: ReplicaId) -> bool:
        """It answered a probe: in again, but its next failure counts as one more in a row. True when it was out."""
        suspicion = self._suspicions.get(replica)
        if suspicion is None or not suspicion.out:
            return False
        suspicion.out = suspicion.ejected = False
        return True

    def left_s(self, replica: ReplicaId, now_s: float) -> float:
        """Until its suspicion ends."""
        suspicion = self._suspicions.get(replica)
        return max(0.0, suspicion.until_s - now_s) if suspicion is not None else 0.0

    def ended(self, now_s: float) -> list[ReplicaId]:
        """Those whose suspicion is over: the next failure counts as one more in a row."""
        ended = []
        for replica, suspicion in self._suspicions.items():
            if suspicion.out and not suspicion.ejected and now_s >= suspicion.until_s:
                suspicion.out = False
                ended.append(replica)
        return ended

    def forget(self, replica: ReplicaId) -> None:
        self._suspicions.pop(replica, None)

"""Which asks are to be expected: a histogram of those that came, learned as they come.

Policies value free room by what could still use it. They look at a Mix through its ``targets``, which stay the same
until half as many asks again have come: refreshing them makes every cached score stale, so that has to become rare.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packers.placement.ask import Ask, PlacementError

KINDS_KEPT = 1024  # of asks that came; beyond that the rarest are forgotten
GROWTH = 1.5
FIRST_REFRESH = 32


@dataclass(frozen=True, slots=True)
class Share:
    """``share``: which part of all asks is like this one."""

    ask: Ask
    share: float


class Mix:
    def __init__(self, kinds_kept: int = KINDS_KEPT) -> None:
        self._counts: dict[Ask, float] = {}
        self._kinds_kept = kinds_kept
        self._seen = 0.0
        self._next = 0.0
        self._shares: tuple[Share, ...] = ()
        self.version = 0

    @classmethod
    def of(cls, counts: Mapping[Ask, float] | Iterable[Ask]) -> Mix:
        """A mix that is known beforehand, such as the catalog's models weighted by how often each is started."""
        mix = cls(kinds_kept=sys.maxsize)
        weighted = counts.items() if isinstance(counts, Mapping) else ((ask, 1.0) for ask in counts)
        for ask, weight in weighted:
            mix._add(ask, weight)
        mix._refresh()
        return mix

    def see(self, ask: Ask, weight: float = 1.0) -> None:
        """``ask`` has come, ``weight`` times. Raises PlacementError when ``weight`` is negative or NaN."""
        self._add(ask, weight)
        if self._seen >= self._next:
            self._refresh()

    @property
    def shares(self) -> tuple[Share, ...]:
        """As of ``version``: sorted by ask, so that the order in which they came changes nothing. They add up to 1."""
        return self._shares

    def _add(self, ask: Ask, weight: float) -> None:
        if not 0 <= weight < float("inf"):
            raise PlacementError(f"mix.weight must be a number of at least 0, got {weight}")
        self._counts[ask] = self._counts.get(ask, 0.0) + weight
        self._seen += weight

    def _refresh(self) -> None:
        if len(self._counts) > self._kinds_kept:
            kept = sorted(self._counts, key=lambda ask: (-self._counts[ask], _key(ask)))[: self._kinds_kept]
            self._counts = {ask: self._counts[ask] for ask in kept}
        total = sum(self._counts[ask] for ask in sorted(self._counts, key=_key))
        self._shares = tuple(
            Share(ask, self._counts[ask] / total) for ask in sorted(self._counts, key=_key) if self._counts[ask] > 0
        )
        self._next = max(FIRST_REFRESH, GROWTH * self._seen)
        self.version += 1


def _key(ask: Ask) -> tuple[int, int, int, int, int, tuple[str, ...]]:
    return ask.gpus, ask.compute_milli, ask.gpu_bytes, ask.cpu_milli, ask.host_bytes, ask.gpu_types

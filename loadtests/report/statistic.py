"""Means and percentiles of samples that belong to requests, for many resamples at once.

A request may have many values (its gaps) or none (no first token): requests are drawn, and their values come with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.report.blocks import Floats, Whole

MEAN = "mean"


def share_of(name: str) -> float | None:
    """``p99``: 0.99; None for the mean."""
    return None if name == MEAN else float(name.removeprefix("p")) / 100


@dataclass(frozen=True, slots=True)
class Values:
    """``sorted``: ascending; ``owner``: the request that each belongs to; ``requests``: how many there are."""

    sorted: Floats
    owner: Whole
    requests: int

    @classmethod
    def of(cls, per_request: Sequence[Iterable[float]]) -> Values:
        owner = [place for place, values in enumerate(per_request) for _ in values]
        flat = np.array([value for values in per_request for value in values], dtype=np.float64)
        order = np.argsort(flat, kind="stable")
        return cls(flat[order], np.array(owner, dtype=np.int64)[order], len(per_request))

    def with_(self, other: Values) -> Values:
        """The other's requests come after these."""
        flat = np.concatenate([self.sorted, other.sorted])
        owner = np.concatenate([self.owner, other.owner + self.requests])
        order = np.argsort(flat, kind="stable")
        return Values(flat[order], owner[order], self.requests + other.requests)

    def statistics(self, names: Sequence[str]) -> Floats:
        """One figure for each name; NaN where there are no values."""
        found: Floats = self.weighted(np.ones((1, self.requests)), names)[0]
        return found

    def weighted(self, weights: Floats | Whole, names: Sequence[str]) -> Floats:
        """(draws, names): with each request taken as often as ``weights`` (draws, requests) say. Percentiles are
        nearest-rank, as everywhere in these load tests."""
        found = np.full((len(weights), len(names)), np.nan)
        if not len(self.sorted):
            return found
        shares = [share_of(name) for name in names]
        ranked = [(place, share) for place, share in enumerate(shares) if share is not None]
        wanted = np.array([share for _, share in ranked])
        columns = [place for place, _ in ranked]
        means = [place for place, share in enumerate(shares) if share is None]
        for row, weight in enumerate(weights):
            taken = weight[self.owner]
            reached = np.cumsum(taken)
            total = reached[-1]
            if total <= 0:
                continue
            if columns:
                # The least value that at least this share of all do not exceed; 1e-9 for what binary fractions lose.
                rank = np.maximum(1, np.ceil(wanted * total - 1e-9))
                found[row, columns] = self.sorted[np.searchsorted(reached, rank)]
            if means:
                found[row, means] = np.dot(taken, self.sorted) / total
        return found


def needed(share: float, level: float = 0.05) -> int:
    """Values from which on an interval for this percentile has an upper end: of fewer, even the largest one is under
    the percentile with a probability of more than ``level / 2`` (``share ** n``; David and Nagaraja, *Order
    Statistics*, 2003, 7.1). For its lower end: of ``1 - share``."""
    return math.ceil(math.log(level / 2) / math.log(share))

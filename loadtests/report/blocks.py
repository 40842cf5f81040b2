"""Requests that follow each other feel the same queue: they are drawn in blocks, so that no interval is too narrow.

Circular block bootstrap: Politis and Romano, "A circular block-resampling procedure for stationary data" (1992). How
long a block is, is read from the data: Politis and White, "Automatic block-length selection for the dependent
bootstrap" (Econometric Reviews 23, 2004), as corrected by Patton, Politis and White (ibid. 28, 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
_LEAST = 8  # below that there is nothing to be read from


def block_length(passes: Sequence[Floats]) -> int:
    """Requests a block, from latencies in the order of the requests (NaN: none). Ranks are looked at: a few outliers
    are not to hide what the others have in common. Passes are of one length, shared by all."""
    measured = [one[~np.isnan(one)] for one in passes]
    series = [_ranks(one) for one in measured if len(one) >= _LEAST and np.ptp(one) > 0]
    if not series:
        return 1
    count = round(sum(len(one) for one in series) / len(series))
    most = math.ceil(min(3 * math.sqrt(count), count / 3))
    run = max(5, math.ceil(math.sqrt(math.log10(count))))
    lags = min(math.ceil(math.sqrt(count)) + run, min(len(one) for one in series) - 1)
    covariance = np.mean([[_covariance(one, lag) for lag in range(lags + 1)] for one in series], axis=0)
    width = 2 * _last_lag(covariance / covariance[0], count, run)
    if width == 0:
        return 1
    lag = np.arange(1, min(width, lags) + 1)
    weight = np.clip(2 * (1 - lag / width), 0, 1)  # flat top: 1 up to half the width
    g = 2 * float(np.sum(weight * lag * covariance[lag]))
    spectrum = float(covariance[0] + 2 * np.sum(weight * covariance[lag]))
    d = 4 / 3 * spectrum**2
    if d <= 0:
        return most
    return int(min(most, max(1, math.ceil((2 * g * g / d) ** (1 / 3) * count ** (1 / 3)))))


def _last_lag(correlation: Floats, count: int, run: int) -> int:
    """The last one before ``run`` lags without a correlation that is more than chance."""
    limit = 2 * math.sqrt(math.log10(count) / count)
    for lag in range(len(correlation) - 1):
        if np.all(np.abs(correlation[lag + 1 : lag + 1 + run]) < limit):
            return lag
    return len(correlation) - 1


def _ranks(values: Floats) -> Floats:
    order = np.empty(len(values))
    order[np.argsort(values, kind="stable")] = np.arange(len(values))
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    means = (np.bincount(place, weights=order) / count)[place]
    found: Floats = means - means.mean()
    return found


def _covariance(values: Floats, lag: int) -> float:
    return float(np.dot(values[: len(values) - lag], values[lag:])) / len(values)


def resampled(count: int, length: int, draws: int, rng: np.random.Generator) -> Whole:
    """(draws, count): how often each of ``count`` requests was drawn, ``count`` in all."""
    blocks = math.ceil(count / length)
    first = rng.integers(0, count, size=(draws, blocks, 1))
    places = ((first + np.arange(length)) % count).reshape(draws, -1)[:, :count]
    flat = places + (np.arange(draws) * count)[:, None]
    found: Whole = np.bincount(flat.ravel(), minlength=draws * count).reshape(draws, count)
    return found


def block_of(count: int, length: int) -> Whole:
    """To which block each of ``count`` requests belongs."""
    return np.arange(count, dtype=np.int64) // length

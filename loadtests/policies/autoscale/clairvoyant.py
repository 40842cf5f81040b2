"""What a scaler that knew every arrival would do, for comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def gpu_hours(
    at_s: Sequence[float], service_s: Sequence[float], slots: int, start_s: float, min_replicas: int
) -> float:
    """The fewest GPU-hours with which nobody ever waits, if requests can always be packed onto the fewest replicas.

    The k-th replica is needed while more than (k - 1) x slots requests are under way. Between two such times it stays
    if that costs no more than a start does; a start is ordered so early that it is done in time.
    """
    times, needed = _needed(at_s, service_s, slots)
    total_s = 0.0
    for number in range(1, int(needed.max(initial=0)) + 1):
        if number <= min_replicas:
            total_s += float(times[-1])
            continue
        changes = np.flatnonzero(np.diff((needed >= number).astype(np.int8), prepend=0, append=0))
        begins, ends = times[changes[::2]], times[np.minimum(changes[1::2], len(times) - 1)]
        pauses_s = begins[1:] - ends[:-1]
        total_s += start_s + float((ends - begins).sum() + np.minimum(pauses_s, start_s).sum())
    return total_s / 3600


def _needed(
    at_s: Sequence[float], service_s: Sequence[float], slots: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """When the number of requests under way changes, and the replicas that they need from then on."""
    arrivals, services = np.asarray(at_s, np.float64), np.asarray(service_s, np.float64)
    times = np.concatenate([arrivals, arrivals + services])
    steps = np.concatenate([np.ones(arrivals.size, np.int64), np.full(arrivals.size, -1, np.int64)])
    order = np.lexsort((steps, times))
    return times[order], -(-np.cumsum(steps[order]) // slots)

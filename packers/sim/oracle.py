"""Looking ahead in a trace: for the clairvoyant baselines of benchmarks. Nothing that decides in production uses it."""

from __future__ import annotations

from bisect import bisect_right
from math import inf

import numpy as np

from packers.sim.trace import Floats, Trace
from packers.types import ModelId


def by_model(trace: Trace, values: Floats) -> dict[ModelId, list[float]]:
    """``values`` of the requests, apart for each model and in order."""
    order = np.argsort(trace.model, kind="stable")
    ends = np.cumsum(np.bincount(trace.model, minlength=len(trace.names)))
    parts: list[Floats] = np.split(values[order], ends[:-1])
    return {name: part.tolist() for name, part in zip(trace.names, parts, strict=True)}


class NextUse:
    """``next_use(model, now_s)``: when the next request of the model comes after ``now_s``; infinity for never.

    An oracle policy for a benchmark needs the present time, too: give ``SimOptions.before_decide`` a function that
    notes it, or ask with the time that the policy is called with.
    """

    def __init__(self, trace: Trace) -> None:
        self._times_s = by_model(trace, trace.at_s)

    def __call__(self, model: ModelId, now_s: float) -> float:
        times_s = self._times_s.get(model, ())
        place = bisect_right(times_s, now_s)
        return times_s[place] if place < len(times_s) else inf

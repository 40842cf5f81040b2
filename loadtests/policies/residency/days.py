"""A day of ServeGen as requests, made as ServeGen itself makes them: each client and window of ten minutes on its own,
gaps drawn one after the other from the window's distribution, from the window's beginning until its end.

(``packers.sim.formats.servegen`` lets gaps run on from window to window; the figures published for these goals are
reproduced better by this one.)
"""

from __future__ import annotations

from math import log

import numpy as np
import numpy.typing as npt

from packers.sim import Trace
from packers.sim.formats.servegen import Clients, Window

MEDIAN_SERVICE_S, SIGMA, LONGEST_SERVICE_S = 4.0, 1.0, 60.0


def arrivals(clients: Clients, from_s: float, until_s: float, rate_per_s: float, rng: np.random.Generator) -> Trace:
    """Times count from ``from_s``; windows that begin outside are left out. Rates are scaled to ``rate_per_s`` in all.

    Service times are log-normal.
    """
    expected = sum(one.requests(from_s, until_s, clients.window_s) for one in clients.clients)
    factor = rate_per_s * (until_s - from_s) / expected
    times, models = [], []
    for place, one in enumerate(clients.clients):
        for window in one.windows:
            if from_s <= window.start_s < until_s and window.rate_per_s > 0:
                mean_gap_s = 1.0 / (window.rate_per_s * factor)
                found = _window(window, mean_gap_s, clients.window_s, rng)
                times.append(window.start_s - from_s + found)
                models.append(np.full(found.size, place))
    at_s = np.concatenate(times)
    service_s = np.minimum(rng.lognormal(log(MEDIAN_SERVICE_S), SIGMA, at_s.size), LONGEST_SERVICE_S)
    return Trace.of([one.name for one in clients.clients], at_s, np.concatenate(models), service_s)


def _window(window: Window, mean_gap_s: float, length_s: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    found = np.cumsum(window.gaps(16, rng)) * mean_gap_s
    while found[-1] < length_s:
        more = window.gaps(max(16, int(1.2 * (length_s - found[-1]) / mean_gap_s)), rng)
        found = np.concatenate([found, found[-1] + np.cumsum(more) * mean_gap_s])
    return found[found < length_s]

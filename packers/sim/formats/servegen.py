"""ServeGen (alibaba/ServeGen): of each client and window of ten minutes the rate and the shape of the gaps.

Its arrivals are made here: gaps are drawn with mean 1 from the Gamma or Weibull distribution of the window that they
begin in, and run off at the client's rate of the moment (a renewal process in operational time). So every window has
its rate on average, also where gaps are longer than windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from packers.sim.formats.rows import Row, table
from packers.sim.trace import Floats, Trace, TraceError

NEEDS = ("category", "client", "window_start_s", "rate_rps", "dist", "p1")


@dataclass(frozen=True, slots=True)
class Window:
    """``shape``: of the distribution ``dist`` (Gamma or Weibull). A rate of 0 has none."""

    start_s: float
    rate_per_s: float
    dist: str
    shape: float

    def gaps(self, count: int, rng: np.random.Generator) -> Floats:
        """With mean 1."""
        if self.dist == "Gamma":
            return rng.gamma(self.shape, 1 / self.shape, count)
        return rng.weibull(self.shape, count) / math.gamma(1 + 1 / self.shape)


@dataclass(frozen=True, slots=True)
class Client:
    name: str  # "<category>/<client>"
    windows: tuple[Window, ...]

    def requests(self, from_s: float, until_s: float, window_s: float) -> float:
        """On average, as recorded."""
        return sum(
            one.rate_per_s * max(0.0, min(until_s, one.start_s + window_s) - max(from_s, one.start_s))
            for one in self.windows
        )


@dataclass(frozen=True, slots=True)
class Clients:
    name: str  # of the file
    clients: tuple[Client, ...]
    window_s: float

    @property
    def end_s(self) -> float:
        return max(one.windows[-1].start_s for one in self.clients) + self.window_s

    def busiest(self, count: int, from_s: float = 0.0, until_s: float = math.inf) -> Clients:
        """The ``count`` clients with the most requests then, most first."""
        ranked = sorted(self.clients, key=lambda one: (-one.requests(from_s, until_s, self.window_s), one.name))
        return Clients(self.name, tuple(ranked[:count]), self.window_s)

    def sample(self, count: int, rng: np.random.Generator, from_s: float = 0.0, until_s: float = math.inf) -> Clients:
        """``count`` clients at random of those that send anything then, in the order of the file."""
        active = [one for one in self.clients if one.requests(from_s, until_s, self.window_s) > 0]
        chosen = sorted(rng.permutation(len(active))[:count].tolist())
        return Clients(self.name, tuple(active[place] for place in chosen), self.window_s)

    def trace(
        self,
        rng: np.random.Generator,
        *,
        from_s: float = 0.0,
        until_s: float | None = None,
        rate_per_s: float | None = None,
        names: Sequence[str] | None = None,
    ) -> Trace:
        """Arrivals with from_s <= time < until_s, which count from ``from_s``; each client is a model.

        ``rate_per_s``: all rates are scaled so that this is the mean of them together. ``names``: instead of the
        clients' own, in their order. Raises TraceError when nothing is sent then.
        """
        end_s = self.end_s if until_s is None else min(until_s, self.end_s)
        expected = sum(one.requests(from_s, end_s, self.window_s) for one in self.clients)
        if not expected > 0:
            raise TraceError(f"no client sends anything from {from_s} s to {end_s} s", name=self.name)
        factor = 1.0 if rate_per_s is None else rate_per_s * (end_s - from_s) / expected
        times = [_arrivals(one, from_s, end_s, self.window_s, factor, rng) - from_s for one in self.clients]
        model = np.repeat(np.arange(len(times), dtype=np.int32), [one.size for one in times])
        return Trace.of(names or [one.name for one in self.clients], np.concatenate(times), model)


def read(lines: Iterable[str], name: str) -> Clients:
    """Raises TraceError."""
    found: dict[str, list[Window]] = {}
    for row in table(lines, name, NEEDS):
        windows = found.setdefault(f"{row.text('category')}/{row.text('client')}", [])
        window = _window(row)
        if windows and window.start_s <= windows[-1].start_s:
            before_s = windows[-1].start_s
            raise row.error("window_start_s", f"{window.start_s} does not come after the row before ({before_s})")
        windows.append(window)
    if not found:
        raise TraceError("there is no client in it", name=name)
    steps = (b.start_s - a.start_s for one in found.values() for a, b in pairwise(one))
    clients = tuple(Client(client, tuple(windows)) for client, windows in found.items())
    return Clients(name, clients, min(steps, default=600.0))


def _window(row: Row) -> Window:
    start_s, rate_per_s = row.number("window_start_s"), row.number("rate_rps")
    if not rate_per_s:
        return Window(start_s, 0.0, "Gamma", 1.0)
    dist = row.text("dist")
    if dist not in ("Gamma", "Weibull"):
        raise row.error("dist", f"{dist!r} is neither Gamma nor Weibull")
    shape = row.number("p1")
    if not shape > 0:
        raise row.error("p1", f"the shape of {dist} must be above 0, got {shape}")
    return Window(start_s, rate_per_s, dist, shape)


def _arrivals(
    client: Client, from_s: float, until_s: float, window_s: float, factor: float, rng: np.random.Generator
) -> Floats:
    found: list[Floats] = []
    left: float | None = None  # of the present gap, in requests that would come on average
    for window in client.windows:
        begin_s, end_s = max(from_s, window.start_s), min(until_s, window.start_s + window_s)
        due = window.rate_per_s * factor * (end_s - begin_s)
        if end_s <= begin_s or due <= 0:
            continue
        if left is None:  # somewhere in the first gap
            left = float(window.gaps(1, rng)[0] * rng.random())
        if left >= due:
            left -= due
            continue
        marks = _marks(window, left, due, rng)
        left = float(marks[-1] - due)
        found.append(begin_s + marks[:-1] / due * (end_s - begin_s))
    times = np.concatenate(found) if found else np.empty(0)
    return times[times < until_s]


def _marks(window: Window, first: float, due: float, rng: np.random.Generator) -> Floats:
    """Where arrivals fall on [0, due), and the first one from ``due`` on."""
    marks = np.array([first])
    while marks[-1] < due:
        gaps = window.gaps(max(16, int(1.2 * (due - float(marks[-1])))), rng)
        marks = np.concatenate([marks, marks[-1] + np.cumsum(gaps)])
    return marks[: int(np.searchsorted(marks, due)) + 1]

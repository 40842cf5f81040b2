"""What is known of a model's last minutes, for autoscaling: arrivals, concurrency, service times, what surges ask for.

``Load`` is the noun that policies read. ``LoadTracker`` keeps it up to date at a cost per arrival that does not grow;
whoever owns the loop owns the trackers (the controller from gateway reports, the simulator from its trace).
"""

from __future__ import annotations

import functools
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy is needed where load is tracked, not where it is only named
    from packers.autoscale.surges import Surges

STABLE_S, PANIC_S = 60.0, 6.0
DAY_S = 86400.0
REPORT_S = 1.0
GAPS = 24  # doublings of a second, from 1/16 s to about three days
GAP_MIN_S = 1 / 16
HALF_LIFE_S = 7200.0
PRIOR_REQUESTS = 10.0
TIERS = 2  # disk and host RAM: surges are counted for the start-up times of both where a model has both
ALIKE = 2.0  # start-up times that differ by a smaller factor are measurements of the same tier


@dataclass(frozen=True, slots=True)
class Aim:
    """What replicas are for: at most ``late_share`` of the requests should wait for longer than ``wait_s``.

    ``slots``: requests that a replica serves at once. ``start_s``: from the order to a ready replica, of the tier that
    would be used. ``late_price_s``: GPU-seconds that it is worth, at most, to keep one request from being late.
    ``service_s``: what a request is taken to need before any was seen. Raises ValueError for what cannot be.
    """

    slots: int = 32
    start_s: float = 10.0
    wait_s: float = 3.0
    late_share: float = 0.01
    late_price_s: float = 120.0
    service_s: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"aim.{name} must be a number that is not negative, got {getattr(self, name)}")
        for name in ("slots", "wait_s", "service_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"aim.{name} must be above 0, got {getattr(self, name)}")


DEFAULT_AIM = Aim()
# Of a start: whoever comes to a model that has nothing ready waits for a whole one, later ones should not.
WAIT_SHARE, SHORTEST_WAIT_S = 0.3, 0.1


@functools.lru_cache(maxsize=4096)
def aim_for(slots: int, start_s: float, wait_s: float | None = None) -> Aim:
    """``wait_s``: what the model's card asks for; None: ``WAIT_SHARE`` of a start. Decisions, the controller's history
    and the simulator all take it from here: what surges were counted for has to be what is asked about."""
    return Aim(max(1, slots), start_s, max(SHORTEST_WAIT_S, WAIT_SHARE * start_s) if wait_s is None else wait_s)


@dataclass(frozen=True, slots=True)
class Reserve:
    """What surges were learned to ask for (``packers.autoscale.surges``).

    ``idle`` replicas while nothing is going on, ``busy`` ones from the first request on, and ``growth`` times the
    replicas in use whatever that is. ``saved``: requests that the idle ones keep from being late, each time that
    requests come again. ``late_share``: what is expected to be late with all of it.
    """

    idle: int = 0
    busy: int = 1
    growth: float = 3.5
    saved: float = 1.0
    late_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """As of ``at_s``. Times in seconds of the caller's clock; ``concurrency``: in flight and held, averaged over time.

    ``offered``: what would be in flight had nobody to wait, so without any backlog; ``peak_offered``: its highest value
    of the last ``hold_s``. ``burstiness``: squared coefficient of variation of ``offered``. ``gaps``: how often nothing
    came for 1/16, 1/8 ... seconds. ``expected``: offered a start-up time ahead, from earlier periods; None: not known.
    """

    arrivals: int = 0
    at_s: float = 0.0
    last_s: float = 0.0
    rate_6s: float = 0.0
    rate_60s: float = 0.0
    concurrency_6s: float = 0.0
    concurrency_60s: float = 0.0
    service_s: float = 1.0
    offered: float = 0.0
    peak_offered: float = 0.0
    burstiness: float = 1.0
    gaps: tuple[float, ...] = ()
    reserve: Reserve = field(default_factory=Reserve)
    expected: float | None = None


@dataclass(frozen=True, slots=True)
class ScaleMemory:
    """What an autoscaling policy wants to be told the next time it is asked about the model.

    ``recent``, ``asked``: counts wanted lately with their times, for a policy's own hold and for the delays around it.
    ``panic_s``: since when a panic lasts; ``panic_count``: its highest count; ``zero_s``: since when none is wanted.
    """

    count: int = 0
    recent: tuple[tuple[float, int], ...] = ()
    asked: tuple[tuple[float, int], ...] = ()
    panic_s: float | None = None
    panic_count: int = 0
    zero_s: float | None = None


NO_LOAD, NO_MEMORY = Load(), ScaleMemory()


class LoadTracker:
    """It begins with the first call. A time earlier than the latest it has seen counts as that one.

    ``period_s``: after which traffic is expected to repeat itself. Raises ValueError when it is not above 0.
    """

    def __init__(self, aim: Aim = DEFAULT_AIM, period_s: float = DAY_S) -> None:
        from packers.autoscale.profile import Profile

        self.aim = aim
        self.arrivals = 0
        self._now_s = self._start_s = self._last_s = self._observed_s = 0.0
        self._surges: list[Surges] = []  # those for ``aim`` first, then those for the other tier's start-up time
        self._profile = Profile(period_s)
        self._seconds: deque[_Second] = deque()
        self._concurrency = self._in_flight = 0
        self._gaps = [0.0] * GAPS
        self._service = _Service(aim.service_s)

    def arrive(self, now_s: float, count: int = 1) -> None:
        """``count`` requests came, now or since the last call."""
        self._pass(now_s)
        now_s = self._now_s
        if not count:
            return
        if self.arrivals and now_s > self._last_s:
            self._gaps[gap_bin(now_s - self._last_s)] += 1
        self._last_s = now_s
        self.arrivals += count
        self._seconds[-1].arrivals += count
        for surges in self._surges:
            surges.arrive(count)

    def observe(self, now_s: float, concurrency: int, held: int = 0) -> None:
        """What the gateways report, every 0.1 to 1 s or at each change: in flight and held together, and held."""
        self._pass(now_s)
        in_flight = concurrency - held
        # Little's law: the time that requests spend in flight, over those that are done, is the mean service time.
        passed_s = self._now_s - self._observed_s
        # It changed somewhere between two reports; after a silence, not long before the second.
        changed_s = min(passed_s, REPORT_S)
        spent_s = passed_s * self._in_flight + changed_s * (in_flight - self._in_flight) / 2
        self._observed_s = self._now_s
        self._service.spend(spent_s, self.arrivals - concurrency)
        self._concurrency, self._in_flight = concurrency, in_flight

    def finish(self, now_s: float, count: int, busy_s: float) -> None:
        """``count`` requests were done, after ``busy_s`` seconds of service in sum: surer than Little's law."""
        self._pass(now_s)
        self._service.measure(count, busy_s)

    def retarget(self, aim: Aim) -> None:
        """Another start-up time was measured, or the model's card changed. What was learned stays, where it can."""
        if aim == self.aim:
            return
        if self._surges:
            if aim.slots != self.aim.slots:
                self._surges.clear()
            self._surges.insert(0, self._surges_for(aim))
            del self._surges[TIERS:]
        self.aim = aim

    def _surges_for(self, aim: Aim) -> Surges:
        """Those that were counted for about these times, or new ones."""
        from packers.autoscale.surges import Surges

        for place, known in enumerate(self._surges):
            if _alike(known.aim.wait_s, aim.wait_s) and _alike(known.aim.start_s, aim.start_s):
                known.retarget(aim)
                return self._surges.pop(place)
        return Surges(aim, self._now_s)

    def load(self, now_s: float) -> Load:
        surges = self._pass(now_s)
        now_s = self._now_s
        rate_6s, concurrency_6s = self._window(PANIC_S)
        rate_60s, concurrency_60s = self._window(STABLE_S)
        return Load(
            arrivals=self.arrivals,
            at_s=now_s,
            last_s=self._last_s if self.arrivals else self._start_s,
            rate_6s=rate_6s,
            rate_60s=rate_60s,
            concurrency_6s=concurrency_6s,
            concurrency_60s=concurrency_60s,
            service_s=self._service.mean_s,
            offered=surges.offered,
            peak_offered=surges.peak_offered,
            burstiness=surges.burstiness,
            gaps=tuple(self._gaps),
            reserve=surges.reserve(now_s),
            expected=self._profile.ahead(now_s, self.aim.start_s),
        )

    def _pass(self, now_s: float) -> Surges:
        """Time goes on to ``now_s``, with as many in flight and held as were seen last."""
        surges = self._surges[0] if self._surges else self._begin(now_s)
        if now_s > self._now_s:
            self._spend(now_s)
            for one in self._surges:
                one.advance(now_s, self._service.mean_s)
            self._profile.add(now_s, surges.offered)
            self._now_s = now_s
        return surges

    def _begin(self, now_s: float) -> Surges:
        from packers.autoscale.surges import Surges

        self._now_s = self._start_s = self._last_s = self._observed_s = now_s
        self._seconds.append(_Second(math.floor(now_s)))
        self._profile.add(now_s, 0.0)
        self._surges.append(Surges(self.aim, now_s))
        return self._surges[0]

    def _spend(self, now_s: float) -> None:
        seconds, at_s = self._seconds, self._now_s
        if now_s - at_s > STABLE_S + 1:  # nothing was asked or told for long: what is older does not count any more
            at_s = now_s - STABLE_S - 1
            seconds.clear()
            seconds.append(_Second(math.floor(at_s)))
        while now_s >= seconds[-1].at_s + 1:
            ends_s = seconds[-1].at_s + 1
            seconds[-1].spent_s += self._concurrency * (ends_s - at_s)
            at_s = float(ends_s)
            seconds.append(_Second(ends_s))
        seconds[-1].spent_s += self._concurrency * (now_s - at_s)
        while seconds[0].at_s + 1 <= now_s - STABLE_S:
            seconds.popleft()

    def _window(self, window_s: float) -> tuple[float, float]:
        """Arrivals per second and mean concurrency, over the whole seconds that begin in the window."""
        now_s = self._now_s
        arrivals, spent_s, first_s = 0, 0.0, now_s
        for second in reversed(self._seconds):
            if second.at_s < now_s - window_s and first_s < now_s:
                break
            arrivals += second.arrivals
            spent_s += second.spent_s
            first_s = max(float(second.at_s), self._start_s)
        if now_s - first_s < 1e-9:
            return float(arrivals), float(self._concurrency)
        return arrivals / (now_s - first_s), spent_s / (now_s - first_s)


def _alike(one_s: float, other_s: float) -> bool:
    return one_s == other_s or 1 / ALIKE < (one_s + 1e-3) / (other_s + 1e-3) < ALIKE


def gap_bin(gap_s: float) -> int:
    """In which of ``Load.gaps`` a gap counts: those from 1/16 s times 2 to the bin on."""
    return min(GAPS - 1, max(0, math.floor(math.log2(max(gap_s, GAP_MIN_S) / GAP_MIN_S))))


@dataclass(slots=True)
class _Second:
    at_s: int
    arrivals: int = 0
    spent_s: float = 0.0  # seconds that requests were in flight or held


class _Service:
    """A mean that begins at a guess which counts as ten requests, and that forgets."""

    def __init__(self, guess_s: float) -> None:
        self._sum_s = guess_s * PRIOR_REQUESTS
        self._count = PRIOR_REQUESTS
        self._done = 0
        self._measured = False

    @property
    def mean_s(self) -> float:
        return max(self._sum_s / self._count, 1e-3)

    def spend(self, seconds: float, done: int) -> None:
        if self._measured:
            return
        self._sum_s += seconds
        self._count += max(0, done - self._done)
        self._done = max(self._done, done)
        self._forget()

    def measure(self, count: int, busy_s: float) -> None:
        self._measured = True
        self._sum_s += busy_s
        self._count += count
        self._forget()

    def _forget(self) -> None:
        if self._count > 20_000:  # of the last 10,000 to 20,000 requests
            self._sum_s, self._count = self._sum_s / 2, self._count / 2

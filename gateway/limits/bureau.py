"""Where the store is asked: one call of the script at a time, for all who wait and all that is to be reported.

What is used is reported every SYNC_S while there is something to report, and at once with a question. A store that does
not answer is waited for once, by those who asked first; from then on it is left alone, but for one call every PAUSE_S,
until it answers again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from redis.exceptions import RedisError

from gateway.errors import GatewayError
from gateway.limits.counter import Counter
from gateway.limits.hold import Hold, Waiting
from gateway.limits.refusals import refusal
from gateway.limits.script import SCRIPT, Ask, Told, arguments
from gateway.limits.windows import Shape

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from gateway.clock import Clock
    from gateway.limits.needs import Seat
    from models.store.keys import Keys

SYNC_S = 0.1
LOOK_S = 5e-5  # per counter, between two looks at all of them
SHORTEST_S = 0.001  # time that is a hair away is not waited for again and again
HURRY_S = 0.005  # what is put back where little is left, for those whom others would refuse meanwhile
PATIENCE_S = 0.15  # a silent store adds at most these two to a request ...
LAST_LOOK_S = 0.04
GIVE_UP_S = 2.0  # a late answer still counts
PAUSE_S = 1.0  # ... and is then left alone for this long
AGAIN_US = 25_000  # who ended elsewhere a moment ago may not have been heard of yet
MOST_AT_ONCE = 128  # counters in one call: it holds up all others at the store for so long
_DOWN = (RedisError, OSError, TimeoutError)

log = structlog.get_logger(__name__)


class Taker(Protocol):
    def take_now(self, waiting: Waiting) -> Hold | None: ...

    def take_alone(self, waiting: Waiting) -> Hold:
        """Raises GatewayError."""


class Bureau:
    """``away``: nobody is to wait for the store."""

    def __init__(
        self, redis: Redis, keys: Keys, clock: Clock, now_us: Callable[[], int], worker: str,
        workers: Callable[[], int], taker: Taker,
    ) -> None:  # fmt: skip
        self._script = redis.register_script(SCRIPT)
        self._alerts, self._clock, self._now_us = keys.alerts, clock, now_us
        self._notes = keys.limit_notes(worker)
        self._worker, self._workers, self._taker = worker, workers, taker
        self._waiting: dict[Seat, Waiting] = {}
        self._attended: dict[Counter, None] = {}
        self._wake = asyncio.Event()
        self._hurried: dict[Counter, None] = {}
        self._asked_s = self._synced_s = float("-inf")
        self.away = False
        self.written: Callable[[], int] = lambda: 0  # how far this worker's log of usage is

    # -- called on the way of a request ------------------------------------------------------------------------------

    def wait(self, waiting: Waiting) -> None:
        self._waiting[waiting.seat] = waiting
        if self.away:  # since it was sent here
            asyncio.get_running_loop().call_soon(self._decide_alone)
        self._wake.set()

    def leave(self, seat: Seat) -> None:
        self._waiting.pop(seat, None)

    def attend(self, counter: Counter) -> None:
        """It is in use from now on."""
        if not self._attended:
            self._wake.set()
        self._attended[counter] = None

    def hurry(self, counter: Counter) -> None:
        """What there is to report of it does not wait for its turn."""
        if not self._hurried:
            self._wake.set()
        self._hurried[counter] = None

    def store_is_silent(self) -> None:
        self.away = True
        self._wake.set()

    # -- the task ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await self._until_due()
            try:
                await self._exchange()
            except Exception:
                log.exception("unexpected error")
                self._went_away("unexpected error")
            if self.away:
                await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Whoever waits still is answered as if the store were away."""
        self.away = True
        self._decide_alone()
        for counter in self._attended:
            counter.chunk, counter.closing = 0, True
        with contextlib.suppress(*_DOWN):
            async with asyncio.timeout(GIVE_UP_S):
                for _ in range(2):  # what was on its way, and the rest
                    for part in _parts(list(self._attended)):
                        await self._call([(counter, self._last_report(counter)) for counter in part])

    def _last_report(self, counter: Counter) -> Ask:
        return counter.report(self._now_us(), self.written(), 0, 0)

    async def _until_due(self) -> None:
        """Somebody waits, something is to be put back in a hurry, or it is time to report."""
        while not self.away:
            now_s = self._clock.monotonic()
            due_s = self._due_s(now_s)
            if due_s is not None and due_s <= now_s:
                break
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due_s is None else max(SHORTEST_S, due_s - now_s)):
                    await self._wake.wait()

    def _due_s(self, now_s: float) -> float | None:
        if self._waiting:
            first_us = min(waiting.again_us for waiting in self._waiting.values())
            if first_us <= self._now_us():
                return now_s
            return min(now_s + (first_us - self._now_us()) / 1e6, self._synced_s + self._every_s)
        if self._hurried:
            return self._asked_s + HURRY_S
        return self._synced_s + self._every_s if self._attended else None

    @property
    def _every_s(self) -> float:
        """To look at very many takes a while."""
        return max(SYNC_S, len(self._attended) * LOOK_S)

    async def _exchange(self) -> None:
        """One round: for those who wait, and of all that is to be reported."""
        now_s, now_us = self._clock.monotonic(), self._now_us()
        candidates, self._hurried = self._hurried, {}
        if self.away or now_s >= self._synced_s + self._every_s:
            self._synced_s = now_s
            self._let_go(now_us)
            candidates = self._attended
        self._asked_s = now_s
        for waiting in list(self._waiting.values()):
            self._try(waiting)
        asking = [waiting for waiting in self._waiting.values() if waiting.again_us <= now_us]
        needs = _needs(asking)
        short = {counter: None for counter, (total, _) in needs.items() if total > counter.free}
        due = [one for one in candidates if one not in short and one.is_due(now_us)]
        parts = _parts([*short, *due])
        if not parts and (self.away or asking):
            parts = [[]]  # only whether it is there
        for part in parts:
            written = self.written()
            reports = [(counter, counter.report(now_us, written, *needs.get(counter, (0, 0)))) for counter in part]
            if not await self._ask_store(reports):
                return
        for waiting in asking:
            self._answer(waiting)

    async def _ask_store(self, reports: list[tuple[Counter, Ask]]) -> bool:
        """Whether it answered, sooner or later. Those who wait are not kept waiting for long."""
        call = asyncio.ensure_future(self._call(reports))
        try:
            # The second look is for a loop that stood still itself: the answer may be there, only not read yet.
            for patience_s in (PATIENCE_S, LAST_LOOK_S, GIVE_UP_S):
                await asyncio.wait((call,), timeout=patience_s)
                if call.done():
                    break
                if patience_s == LAST_LOOK_S:
                    self._went_away("it takes too long")
            else:
                return False
            call.result()
        except _DOWN as down:
            self._went_away(str(down) or type(down).__name__)
            return False
        finally:
            call.cancel()
        if self.away:
            self.away = False
            log.info("the store of limits answers")
        return True

    def _went_away(self, reason: str) -> None:
        if not self.away:
            log.warning("the store of limits does not answer; limits go by shares", reason=reason)
        self.away = True
        self._decide_alone()

    def _decide_alone(self) -> None:
        for one in list(self._waiting.values()):
            if self._waiting.get(one.seat) is one:  # else it left when another was told
                self._decide(one)

    def _decide(self, one: Waiting) -> None:
        """Without the store's word."""
        del self._waiting[one.seat]
        try:
            hold = self._taker.take_alone(one)
        except GatewayError as error:
            _tell(one.seat.not_granted, error)
        else:
            _tell(one.seat.granted, hold)

    async def _call(self, reports: list[tuple[Counter, Ask]]) -> None:
        keys = [self._alerts, self._notes, *(counter.key for counter, _ in reports)]
        asks = [ask for _, ask in reports]
        args = arguments(self._now_us(), self._worker, max(1, self._workers()), asks)
        answers: Any = await self._script(keys=keys, args=args)
        now_us = self._now_us()
        for (counter, ask), answer in zip(reports, answers, strict=True):
            if answer:
                self._hear(counter, Told(*answer), ask, now_us)
            elif not counter.broken:
                counter.broken = True
                log.error("a limit cannot be counted: something else is in its place", key=counter.key)

    def _hear(self, counter: Counter, told: Told, ask: Ask, now_us: int) -> None:
        if counter.broken:
            log.info("a limit is counted again", key=counter.key)
        counter.hear(told, ask, now_us)

    def _try(self, waiting: Waiting) -> bool:
        """Whether that is settled."""
        if self._waiting.get(waiting.seat) is not waiting:
            return True
        hold = self._taker.take_now(waiting)
        if hold is None:
            return False
        del self._waiting[waiting.seat]
        _tell(waiting.seat.granted, hold)
        return True

    def _answer(self, waiting: Waiting) -> None:
        """After the store's word: it has its place, or it is refused, or it is asked again."""
        if self._try(waiting):
            return
        now_us = self._now_us()
        waiting.tries += 1
        for entry, units in zip(waiting.plan.entries, waiting.taken, strict=True):
            counter = entry.counter
            if units <= counter.free or not counter.refuses(units, now_us):
                continue
            if waiting.tries == 1 and counter.shape is Shape.AT_ONCE:
                waiting.again_us = now_us + AGAIN_US
                return
            del self._waiting[waiting.seat]
            for other in waiting.plan.entries:  # what it got of other rules goes back
                self.hurry(other.counter)
            _tell(waiting.seat.not_granted, refusal(counter, units, now_us))
            return
        self._do_without(waiting)

    def _do_without(self, waiting: Waiting) -> None:
        """Nothing but counters that the store cannot count is in its way: as for all while the store is away."""
        zipped = zip(waiting.plan.entries, waiting.taken, strict=True)
        missing = [entry.counter for entry, units in zipped if units > entry.counter.free]
        if missing and all(counter.broken for counter in missing):
            self._decide(waiting)

    def _let_go(self, now_us: int) -> None:
        for counter in [one for one in self._attended if one.is_idle(now_us)]:
            counter.active, counter.slot_ends_us = False, 0
            del self._attended[counter]


def _needs(asking: Iterable[Waiting]) -> dict[Counter, tuple[int, int]]:
    """Counter -> what all of them need of it, and the one that needs least."""
    sums: dict[Counter, int] = {}
    least: dict[Counter, int] = {}
    for waiting in asking:
        for entry, units in zip(waiting.plan.entries, waiting.taken, strict=True):
            counter = entry.counter
            if counter.hard and units:
                sums[counter] = sums.get(counter, 0) + units
                least[counter] = min(least.get(counter, units), units)
    return {counter: (total, least[counter]) for counter, total in sums.items()}


def _parts(counters: list[Counter]) -> list[list[Counter]]:
    return [counters[at : at + MOST_AT_ONCE] for at in range(0, len(counters), MOST_AT_ONCE)]


def _tell(listener: Callable[[Any], None], word: object) -> None:
    try:
        listener(word)
    except Exception:
        log.exception("unexpected error")

"""The limits of one worker: what requests may take is reserved before they run, and settled when they are over.

What the worker has in hand (leases) is used at once; else the store is asked, by one call of a script at a time for all
that wait (``gateway.limits.bureau``). While the store is away limits go by shares, and budgets refuse.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
from redis.asyncio import Redis

from gateway.accounts import Account, Placed
from gateway.clock import Clock
from gateway.limits.bureau import Bureau
from gateway.limits.costs import Costs
from gateway.limits.counter import TIGHT, Counter
from gateway.limits.heads import alarms_of, exceeded_of
from gateway.limits.hold import Hold, Waiting
from gateway.limits.needs import Need, Seat, Used
from gateway.limits.now import Now
from gateway.limits.plan import Plan
from gateway.limits.refusals import alone_refusal, refusal, unchecked
from gateway.limits.windows import SECOND_US, Shape, UnknownWindow, window_of
from models.store.keys import Keys
from models.store.records import ModelRoute

__all__ = ["Hold", "Limiter"]

MOST_ACCOUNTS = 10_000  # before all are made ready anew
SWEEP_US = 600 * SECOND_US

log = structlog.get_logger(__name__)


class Limiter:
    """``worker``: whose leases these are. ``workers``: how many there are; each has its share while the store is away.

    ``run`` is to be running all the time, ``close`` ends it. None of the others waits.
    """

    def __init__(
        self, redis: Redis, keys: Keys, clock: Clock, worker: str, workers: Callable[[], int] = lambda: 1
    ) -> None:
        self._keys, self._workers = keys, workers
        self._now_us = Now(clock)
        self._bureau = Bureau(redis, keys, clock, self._now_us, worker, workers, self)
        self._plans: dict[Account, dict[str, Plan]] = {}
        self._counters: dict[str, Counter] = {}
        self._broken: set[Placed] = set()
        self._swept_us = 0

    # -- before it runs ----------------------------------------------------------------------------------------------

    def reserve(self, need: Need) -> Hold | None:
        """What it needs of every rule that holds for it; None: the store is to be asked (``ask``).

        Raises LimitReached, and StoreUnavailable where a budget cannot be checked.
        """
        plan = self._plan(need.account, need.route)
        now_us = self._now_us()
        tokens = need.input_tokens + need.output_tokens
        for counter in plan.requests:
            if now_us >= counter.slot_ends_us:
                self._touch(counter, now_us)
            if counter.here >= counter.most:
                return self._reserve_more(plan, need, now_us)
        for counter in plan.tokens:
            if now_us >= counter.slot_ends_us:
                self._touch(counter, now_us)
            if counter.here + tokens > counter.most and tokens:
                return self._reserve_more(plan, need, now_us)
        taken = []
        for entry in plan.others:
            counter, units = entry.counter, entry.most(need)
            if now_us >= counter.slot_ends_us:
                self._touch(counter, now_us)
            if counter.here + units > counter.most and units:
                return self._reserve_more(plan, need, now_us)
            taken.append(units)
        return self._take(plan, need, taken, now_us)

    def _take(self, plan: Plan, need: Need, taken: list[int], now_us: int) -> Hold:
        """``taken``: of ``plan.others``."""
        tokens = need.input_tokens + need.output_tokens
        for counter in plan.requests:
            counter.here += 1
            counter.open += 1
        for counter in plan.tokens:
            counter.here += tokens
            counter.open += 1
        if taken:
            for entry, units in zip(plan.others, taken, strict=True):
                entry.counter.here += units
                entry.counter.began(units, now_us)
        return Hold(plan, need, taken, now_us)

    def _take_every(self, plan: Plan, need: Need, taken: list[int], now_us: int) -> Hold:
        """``taken``: of ``plan.entries``."""
        others = [units for entry, units in zip(plan.entries, taken, strict=True) if not entry.usual]
        return self._take(plan, need, others, now_us)

    def _reserve_more(self, plan: Plan, need: Need, now_us: int) -> Hold | None:
        """Not all of it is in hand. 1. The store is away. 2. It refused as much a moment ago. 3. It is to be asked."""
        taken = [entry.most(need) for entry in plan.entries]
        if self._bureau.away:  # 1
            return self._reserve_alone(plan, need, taken, now_us)
        for entry, units in zip(plan.entries, taken, strict=True):  # 2
            counter = entry.counter
            if now_us >= counter.slot_ends_us:
                self._touch(counter, now_us)
            if units > counter.free and units and (counter.refuses(units, now_us) or units > counter.amount):
                raise refusal(counter, units, now_us)
        return None  # 3

    def _reserve_alone(self, plan: Plan, need: Need, taken: list[int], now_us: int) -> Hold:
        short = []
        for entry, units in zip(plan.entries, taken, strict=True):
            counter = entry.counter
            if now_us >= counter.slot_ends_us:
                self._touch(counter, now_us)
            if units <= counter.free or not units:
                continue
            if entry.is_budget:
                raise unchecked()
            if units > counter.room_alone(now_us, self._workers()):
                raise alone_refusal(counter, units, now_us)
            short.append((counter, units))
        for counter, units in short:  # what is not in hand is taken all the same
            counter.most += units
        return self._take_every(plan, need, taken, now_us)

    def ask(self, need: Need, seat: Seat) -> None:
        """After ``reserve`` gave None. The seat is told, within 200 ms whatever the store does."""
        plan = self._plan(need.account, need.route)
        now_us = self._now_us()
        taken = [entry.most(need) for entry in plan.entries]
        for entry, units in zip(plan.entries, taken, strict=True):
            if units > entry.counter.free:
                entry.counter.asked(units, now_us)
        self._bureau.wait(Waiting(plan, need, taken, seat))

    def leave(self, seat: Seat) -> None:
        """It no longer waits."""
        self._bureau.leave(seat)

    def take_now(self, waiting: Waiting) -> Hold | None:
        """What was waited for, if it is in hand now."""
        now_us = self._now_us()
        for entry, units in zip(waiting.plan.entries, waiting.taken, strict=True):
            counter = entry.counter
            if now_us >= counter.slot_ends_us:
                self._touch(counter, now_us)
            if units > counter.free and units:
                return None
        return self._take_every(waiting.plan, waiting.need, waiting.taken, now_us)

    def take_alone(self, waiting: Waiting) -> Hold:
        """Raises LimitReached, StoreUnavailable."""
        return self._reserve_alone(waiting.plan, waiting.need, waiting.taken, self._now_us())

    # -- while it runs, and after ------------------------------------------------------------------------------------

    def settle(self, hold: Hold, used: Used) -> None:
        """Once for each hold: the difference to what was reserved is put back, or charged."""
        if hold.settled:
            return
        hold.settled = True
        plan, need, at_us = hold.plan, hold.need, hold.at_us
        for counter in plan.requests:
            counter.open -= 1
            if not used.answered:
                self._change(counter, -1, at_us)
        more = used.input_tokens + used.output_tokens - need.input_tokens - need.output_tokens
        for counter in plan.tokens:
            counter.open -= 1
            if more and at_us >= counter.slot_begins_us and counter.slot_ends_us:  # ``_change`` without its calls
                counter.here += more
                counter.most += more
                if more < 0 and (counter.left - counter.here + more) * TIGHT < counter.amount:
                    self._put_back(counter)
            elif more:
                self._change(counter, more, at_us)
        if plan.others:
            self._settle_others(hold, used)

    def _settle_others(self, hold: Hold, used: Used) -> None:
        plan, at_us = hold.plan, hold.at_us
        for entry, units in zip(plan.others, hold.taken, strict=True):
            entry.counter.ended(units, at_us)
            if more := entry.used(used) - units:
                self._change(entry.counter, more, at_us)
        if used.gpu_us or used.gib_us:
            plan.learn(used)

    def _change(self, counter: Counter, more: int, at_us: int) -> None:
        if counter.shape is Shape.AT_ONCE:
            counter.here += more
        else:
            counter.change(more, at_us)
        if more < 0 and (counter.left - counter.here + more) * TIGHT < counter.amount:
            self._put_back(counter)

    def _put_back(self, counter: Counter) -> None:
        """There was little left before: others may be refused for want of it."""
        counter.forget_refusal()
        self._bureau.hurry(counter)

    def extend(self, hold: Hold, gpu_us: int, gib_us: int) -> bool:
        """It has used so much so far, in all, and goes on; False: a hard budget has no more for it.

        What it has used is charged, whether there is any left or not; a little more than that is reserved ahead, so
        that a budget is overrun by no more than what runs in the time between two calls. While the store is away what
        runs goes on.
        """
        if hold.settled or not hold.by_time:
            return True
        plan, now_us, good = hold.plan, self._now_us(), True
        ahead_gpu_us, ahead_gib_us = plan.ahead
        for at, entry in enumerate(plan.others):
            if not (entry.by_time and entry.is_budget):
                continue
            counter, units = entry.counter, hold.taken[at]
            if now_us >= counter.slot_ends_us:
                self._touch(counter, now_us)
            aim = entry.so_far(hold.need, gpu_us + ahead_gpu_us, gib_us + ahead_gib_us)
            if aim <= units:
                continue
            if aim - units <= counter.free:
                counter.here += aim - units
                hold.taken[at] = aim
                counter.hold(aim - units, hold.at_us)
                continue
            far = entry.so_far(hold.need, gpu_us, gib_us)
            if far > units:
                counter.charge(far - units, now_us)
                counter.hold(far - units, hold.at_us)
                hold.taken[at] = units = far
                good = good and (self._bureau.away or not counter.refused_lately(now_us))
            counter.want += aim - units
            self._bureau.hurry(counter)
        return good

    def headers(self, account: Account, route: ModelRoute) -> bytes:
        """The x-ratelimit-* lines as they are now, of the tightest rule of each kind."""
        return self.told(self._plan(account, route))

    def told(self, plan: Plan) -> bytes:
        """``headers``, by the plan of a hold."""
        now_us, lines = self._now_us(), b""
        for teller in plan.tellers:
            lines += teller.lines(now_us)
        return lines

    # -- the store ---------------------------------------------------------------------------------------------------

    def store_is_silent(self) -> None:
        """Another part of the worker waited for the store in vain: nobody waits for it again for a while."""
        self._bureau.store_is_silent()

    def follow(self, written: Callable[[], int]) -> None:
        """``written``: how far the log is that its worker's usage is in (``gateway.metering.recorder``)."""
        self._bureau.written = written

    async def run(self) -> None:
        await self._bureau.run()

    async def close(self) -> None:
        """Reports what is left to report, and gives back all leases."""
        await self._bureau.close()

    # -- plans and counters ------------------------------------------------------------------------------------------

    def _plan(self, account: Account, route: ModelRoute) -> Plan:
        plans = self._plans.get(account)
        if plans is not None:
            plan = plans.get(route.model_id)
            if plan is not None and plan.route is route:
                return plan
        return self._make_plan(account, route)

    def _make_plan(self, account: Account, route: ModelRoute) -> Plan:
        self._sweep(self._now_us())
        ruled = []
        for placed in account.rules(route.model_id):
            counter = self._counter(placed, account)
            if counter is not None:
                ruled.append((placed, counter))
        plan = Plan(route, Costs(account.price(route)), ruled)
        plans = self._plans.setdefault(account, {})
        if before := plans.get(route.model_id):
            plan.usual = before.usual
        plans[route.model_id] = plan
        return plan

    def _counter(self, placed: Placed, account: Account) -> Counter | None:
        """None: the rule cannot be read; whoever made it was told, and here it is logged."""
        key = self._keys.limit(placed.place, placed.rule.name)
        counter = self._counters.get(key)
        if counter is None:
            try:
                window = window_of(placed.rule)
            except UnknownWindow as unknown:
                if placed not in self._broken:
                    self._broken.add(placed)
                    log.error("a limit is left out", place=placed.place, rule=placed.rule.name, reason=str(unknown))
                return None
            # Microseconds since 1970 as the first number: a counter that is made anew has never reported less.
            counter = self._counters[key] = Counter(key, placed, window, self._now_us())
        elif counter.placed != placed:
            counter.resize(placed)
        counter.alarms = alarms_of(placed, account.caller.tenant)
        counter.exceeded = exceeded_of(placed, account.caller.tenant)
        return counter

    def _touch(self, counter: Counter, now_us: int) -> None:
        counter.roll(now_us)
        if not counter.active:
            counter.active = True
            self._bureau.attend(counter)

    def _sweep(self, now_us: int) -> None:
        """Accounts are made anew with every change: old ones and their counters go."""
        if len(self._plans) < MOST_ACCOUNTS and now_us - self._swept_us < SWEEP_US:
            return
        self._swept_us = now_us
        self._plans.clear()
        self._counters = {key: one for key, one in self._counters.items() if one.active or one.open}

"""Events and the sweep together: who ran where in a window, and what of that is settled at its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.billing.pricing import Prices
from gateway.billing.shares import Stay, Who
from gateway.billing.sweep import Account, State, Swept, sweep
from gateway.billing.timeline import SECOND_US
from models.store.rollups import HOUR_S, hour_of
from models.store.rollups import field as field_of
from models.store.tenancy import HouseRecord, TenantRecord
from models.store.usage import METRICS, GpuPicture, OpenRequest, Run, SettledEvent, UsageEvent, identity_of

MOST_AT_ONCE = 1000  # events that are settled in one step: the store works on them in one go
LONGEST_WINDOW_US = 600 * SECOND_US
RESIDENT = "resident"  # the endpoint of what owners bear: it counts as no request
FORGOTTEN_US = 86_400 * SECOND_US  # accounts of requests whose event does not come
NOTHING = Account()

Read = tuple[str, UsageEvent]  # with its id in the stream
Books = dict[str, dict[str, int]]  # hour or day -> field -> what is added


@dataclass(slots=True)
class Settlement:
    """One step's result. ``entries``: of the stream, that it settles. ``late_us``: of runs that came to light after
    their time was swept."""

    swept: Swept
    entries: list[str] = field(default_factory=list)
    settled: list[SettledEvent] = field(default_factory=list)
    hours: Books = field(default_factory=dict)
    gpu_hours: Books = field(default_factory=dict)
    late_us: int = 0
    forgotten: int = 0

    @property
    def days(self) -> Books:
        return _by_day(self.hours)

    @property
    def gpu_days(self) -> Books:
        return _by_day(self.gpu_hours)


@dataclass(frozen=True, slots=True)
class Rules:
    """By which it is settled: the house's, its tenants, and the prices over time."""

    house: HouseRecord
    tenants: Mapping[str, TenantRecord]
    prices: Prices


def window_end(state: State, held: Sequence[Read], known_us: int, pictures: Sequence[GpuPicture] = ()) -> int:
    """A whole second: as far as all is known (``known_us``), and no further than one step is to go."""
    until_us = known_us // SECOND_US * SECOND_US
    since_us = state.until_us or min((picture.at_us for picture in pictures), default=until_us) // SECOND_US * SECOND_US
    until_us = min(until_us, since_us + LONGEST_WINDOW_US)
    ended = [event.ended_us for _, event in held if event.ended_us <= until_us]
    if len(ended) > MOST_AT_ONCE:
        ended.sort()
        until_us = min(until_us, -(-ended[MOST_AT_ONCE - 1] // SECOND_US) * SECOND_US)
    return max(until_us, state.until_us)


def settle(
    state: State,
    held: Sequence[Read],
    opens: Iterable[OpenRequest],
    pictures: Sequence[GpuPicture],
    until_us: int,
    rules: Rules,
) -> Settlement:
    """Carries ``state`` on to ``until_us``. ``held``: all events that are known and not settled; ``opens``: requests
    that run, as the gateways last said.

    Of ``held`` those are settled that ended by then; those that may come to bear a part of a start, once that is known.
    """
    stays, late_us = _stays(state, held, opens, until_us)
    done = Settlement(sweep(state, pictures, stays, until_us, rules.house, rules.tenants), late_us=late_us)
    awaits = state.awaits()
    for entry, event in held:
        if len(done.entries) >= MOST_AT_ONCE:
            break
        name = identity_of(event)
        if event.ended_us <= state.until_us and name not in awaits:
            done.entries.append(entry)
            _put(done, _settled(event, state.accounts.pop(name, NOTHING), rules.prices, 1), 1)
    for event, used in _residents(state, rules):
        _put(done, _settled(event, used, rules.prices, 0), 0)
    for hour, sums in done.swept.hours().items():
        done.gpu_hours[hour] = {field_of(gpu, use, *who): ns for (gpu, use, who), ns in sums.items() if ns}
    done.forgotten = _forget(state, held)
    return done


def _stays(state: State, held: Sequence[Read], opens: Iterable[OpenRequest], until_us: int) -> tuple[list[Stay], int]:
    since_us, late_us = state.until_us, 0
    stays: list[Stay] = []
    told = set[str]()
    if until_us <= since_us:
        return stays, late_us
    for _, event in held:
        if not event.runs:
            continue
        name = identity_of(event)
        who = Who(event.tenant, event.project, event.key_id, event.model)
        known = name in state.accounts or not since_us
        told.add(name)
        for run in event.runs:
            if run.from_us < since_us and not known:
                late_us += min(run.from_us + run.us, since_us) - run.from_us
            stays += _stay(name, who, run, event.wake_us, since_us, until_us)
    for one in opens:
        name = identity_of(one)
        if name in told:
            continue  # its event says the same, and how it ended
        who = Who(one.tenant, one.project, one.key_id, one.model)
        runs = one.runs
        if one.replica:
            runs += (Run(replica=one.replica, from_us=one.from_us, us=max(0, until_us + 1 - one.from_us)),)
        for run in runs:
            stays += _stay(name, who, run, one.wake_us, since_us, until_us)
    return stays, late_us


def _stay(name: str, who: Who, run: Run, wake_us: int, since_us: int, until_us: int) -> list[Stay]:
    """What of it lies in this window, which may be nothing."""
    from_us, to_us = max(run.from_us, since_us), run.from_us + run.us
    if from_us >= min(to_us, until_us):
        return []
    return [Stay(name, who, run.replica, from_us, to_us, run.from_us >= since_us, wake_us > 0)]


def _settled(event: UsageEvent, used: Account, prices: Prices, requests: int) -> SettledEvent:
    tariff = prices.at(event.ended_us)
    lines = prices.lines(event, used.gpu_ns, used.memory_kib_ms, used.start_gpu_ns, requests)
    return SettledEvent(
        **{name: getattr(event, name) for name in UsageEvent.__struct_fields__},
        gpu_ns=used.gpu_ns,
        memory_kib_ms=used.memory_kib_ms,
        start_gpu_ns=used.start_gpu_ns,
        lines=lines,
        cost=sum(lines.values()),
        currency=tariff.house.currency,
        price_version=tariff.house.version,
    )


def _put(done: Settlement, event: SettledEvent, requests: int) -> None:
    done.settled.append(event)
    sums = done.hours.setdefault(hour_of(event.ended_us // (HOUR_S * SECOND_US) * HOUR_S), {})
    place = field_of(event.tenant, event.project, event.key_id, event.model, "")
    run_us = sum(run.us for run in event.runs)
    values = (
        requests, int(event.status >= 400), event.prompt_tokens, event.cached_tokens, event.completion_tokens,
        event.queue_us, event.wake_us, run_us, event.gpu_ns, event.memory_kib_ms, event.start_gpu_ns, event.cost,
    )  # fmt: skip
    for metric, value in zip(METRICS, values, strict=True):
        if value:
            sums[place + metric] = sums.get(place + metric, 0) + value


def _residents(state: State, rules: Rules) -> Iterator[tuple[UsageEvent, Account]]:
    """What owners bear of hours that are over and of which no start is pending: as an event each, of no request."""
    begun_us = min((start.began_us for start in state.starts), default=state.until_us)
    for hour in [hour for hour in state.residents if hour < hour_of(begun_us // SECOND_US)]:
        for tenant, models in sorted(state.residents.pop(hour).items()):
            for model, used in sorted(models.items()):
                yield _resident(hour, tenant, model, rules), used


def _resident(hour: str, tenant: str, model: str, rules: Rules) -> UsageEvent:
    record, house = rules.tenants.get(tenant), rules.house
    own = record.price_list if record is not None else ""
    begin_us = _begin_us(hour)
    return UsageEvent(
        id=f"{RESIDENT}-{hour}-{tenant}-{model}",
        started_us=begin_us,
        ended_us=begin_us + HOUR_S * SECOND_US - 1,
        key_id="",
        project="",
        tenant=tenant,
        model=model,
        endpoint=RESIDENT,
        status=200,
        price_list=own if own in house.price_lists else house.default_price_list,
    )


def _begin_us(hour: str) -> int:
    return int(datetime.fromisoformat(f"{hour}:00:00+00:00").timestamp()) * SECOND_US


def _forget(state: State, held: Sequence[Read]) -> int:
    old_us = state.until_us - FORGOTTEN_US
    old = [name for name, account in state.accounts.items() if account.seen_us < old_us]
    if old:
        keep = {identity_of(event) for _, event in held}
        for name in old:
            if name not in keep:
                del state.accounts[name]
    return len(old)


def _by_day(hours: Books) -> Books:
    days: Books = {}
    for hour, sums in hours.items():
        day = days.setdefault(hour[: len("2026-11-22")], {})
        for name, value in sums.items():
            day[name] = day.get(name, 0) + value
    return days

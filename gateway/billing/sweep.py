"""What all GPUs' time went to, second by second, and how much of it each request used. Pure.

What happened up to a moment is swept once: from where the last sweep ended to a whole second before which nothing more
is going to come to light. All of a GPU's time in between is booked as exactly one of BUSY, IDLE, STARTING, FREE while
the GPU is there; sums come out to the nanosecond, in however many steps it was swept. What comes to light later all the
same counts from where the sweep is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.billing import starts, timeline
from gateway.billing.shares import Segment, Stay, Who, share
from gateway.billing.starts import Start, Waiter
from gateway.billing.timeline import SECOND_US
from models.store.remains import Remainder
from models.store.rollups import hour_of
from models.store.tenancy import Bearer, HouseRecord
from models.store.usage import GpuPicture, Use

Place = tuple[str, str, Who]  # GPU, what for, whose
Sums = dict[Place, int]


class Account(msgspec.Struct, kw_only=True):  # it grows
    """What has come together so far of a request that is not settled, or of what a model's owner bears in an hour.
    ``seen_us``: when it was last known to run."""

    seen_us: int = 0
    gpu_ns: int = 0
    memory_kib_ms: int = 0
    start_gpu_ns: int = 0


class State(msgspec.Struct, kw_only=True):  # it goes on
    """What the sweep goes on from. ``accounts``: of requests, ``residents``: hour -> tenant -> model.
    ``remains``: by workers, kept for ``gateway.billing.remains``."""

    until_us: int = 0
    gpus: dict[str, GpuPicture] = msgspec.field(default_factory=dict)
    accounts: dict[str, Account] = msgspec.field(default_factory=dict)
    starts: list[Start] = msgspec.field(default_factory=list)
    residents: dict[str, dict[str, dict[str, Account]]] = msgspec.field(default_factory=dict)
    remains: dict[str, Remainder] = msgspec.field(default_factory=dict)

    def account(self, name: str) -> Account:
        found = self.accounts.get(name)
        if found is None:
            found = self.accounts[name] = Account()
        return found

    def resident(self, hour: str, tenant: str, model: str) -> Account:
        return self.residents.setdefault(hour, {}).setdefault(tenant, {}).setdefault(model, Account())

    def awaits(self) -> set[str]:
        """Accounts that may come to bear a part of a start, which is not known yet."""
        return {account for start in self.starts for account in start.waiters}


@dataclass(slots=True)
class Swept:
    """``seconds``: what was booked, by the second. ``moved``: changes to hours, which may have been swept before.
    ``late_us``: how far behind pictures came."""

    seconds: dict[int, Sums] = field(default_factory=dict)
    moved: dict[str, Sums] = field(default_factory=dict)
    late_us: int = 0

    def hours(self) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        for second, sums in self.seconds.items():
            _merge(found.setdefault(hour_of(second), {}), sums)
        for hour, sums in self.moved.items():
            _merge(found.setdefault(hour, {}), sums)
        return found


def sweep(
    state: State,
    pictures: Sequence[GpuPicture],
    stays: Sequence[Stay],
    until_us: int,
    house: HouseRecord,
    tenants: Collection[str] = (),
) -> Swept:
    """Carries ``state`` on to ``until_us``, a whole second. ``pictures``: all from before that which it has not seen,
    in order (``timeline.ripe``); ``stays``: all that there was since ``state.until_us``, from there on."""
    first_us = state.until_us or min((picture.at_us for picture in pictures), default=until_us - SECOND_US)
    since_us = first_us // SECOND_US * SECOND_US
    if until_us <= since_us:
        return Swept()
    cut = timeline.cut(state.gpus, state.starts, pictures, since_us if state.until_us else first_us, until_us)
    sweeping = _Sweeping(state, Swept(late_us=cut.late_us), house, tenants)
    on: dict[str, list[Stay]] = {}
    for stay in stays:
        on.setdefault(stay.replica, []).append(stay)
    for (_, replica), segments in sorted(cut.seats.items()):
        sweeping.book(replica, *cut.owners.get(replica, ("", "")), segments, on.get(replica, ()))
    state.until_us = until_us
    for stay in stays:
        state.account(stay.account).seen_us = until_us
    sweeping.note_waiters(stays)
    sweeping.charge_starts()
    return sweeping.swept


class _Sweeping:
    def __init__(self, state: State, swept: Swept, house: HouseRecord, tenants: Collection[str]) -> None:
        self.swept = swept
        self._state, self._house, self._tenants = state, house, tenants

    def book(self, replica: str, model: str, owner: str, segments: Sequence[Segment], stays: Sequence[Stay]) -> None:
        state, seconds = self._state, self.swept.seconds
        nobody = Who("", "", "", model)
        owned = self._house.idle_charged_to is Bearer.OWNER and owner in self._tenants
        bearer = Who(owner, "", "", model) if owned else nobody
        if replica == timeline.FREE:
            for segment in segments:
                _add(seconds.setdefault(segment.from_us // SECOND_US, {}), (segment.gpu, Use.FREE, nobody), segment[4])
            return

        def put(segment: Segment, use: Use, ns: int, stay: Stay | None) -> None:
            who = bearer if use is Use.IDLE else nobody
            if stay is not None:
                who = stay.who
                account = state.account(stay.account)
                account.gpu_ns += ns
                account.memory_kib_ms += _kib_ms(ns, segment)
            elif use is Use.STARTING:
                self._start(replica, segment.from_us).add(_hour(segment), segment.gpu, ns)
            elif owned:
                resident = state.resident(_hour(segment), owner, model)
                resident.gpu_ns += ns
                resident.memory_kib_ms += _kib_ms(ns, segment)
            _add(seconds.setdefault(segment.from_us // SECOND_US, {}), (segment.gpu, use, who), ns)

        share(segments, stays, put)

    def _start(self, replica: str, at_us: int) -> Start:
        """There is one for each time that a picture says so: the last that began before."""
        return max(
            (start for start in self._state.starts if start.replica == replica and start.began_us <= at_us),
            key=lambda start: start.began_us,
        )

    def note_waiters(self, stays: Sequence[Stay]) -> None:
        begun: dict[str, list[Start]] = {}
        for start in self._state.starts:
            begun.setdefault(start.replica, []).append(start)
        if not begun:
            return
        for stay in stays:
            if stay.waited and stay.begins:
                for start in begun.get(stay.replica, ()):
                    if start.may_have(stay.from_us):
                        start.waiters[stay.account] = Waiter(who=stay.who, from_us=stay.from_us)
        for start in self._state.starts:
            start.forget_early(self._state.until_us)

    def charge_starts(self) -> None:
        """Of those that it is known of who waited for them."""
        state, house = self._state, self._house
        for start in [start for start in state.starts if start.is_known(state.until_us)]:
            state.starts.remove(start)
            nobody = Who("", "", "", start.model)
            is_tenant = start.owner in self._tenants
            for charge in starts.charges(start, house.starts_charged_to, house.idle_charged_to, is_tenant):
                who, account, hour, gpu, ns = charge
                if account:
                    state.account(account).start_gpu_ns += ns
                else:
                    state.resident(hour, who.tenant, who.model).start_gpu_ns += ns
                moved = self.swept.moved.setdefault(hour, {})
                _add(moved, (gpu, Use.STARTING, nobody), -ns)
                _add(moved, (gpu, Use.STARTING, who), ns)


def _hour(segment: Segment) -> str:
    return hour_of(segment.from_us // SECOND_US)


def _kib_ms(ns: int, segment: Segment) -> int:
    """A share of its time is the same share of its memory."""
    return (ns * segment.memory_kib + 500_000) // 1_000_000


def _add(sums: Sums, place: Place, ns: int) -> None:
    sums[place] = sums.get(place, 0) + ns


def _merge(sums: Sums, more: Sums) -> None:
    for place, ns in more.items():
        _add(sums, place, ns)

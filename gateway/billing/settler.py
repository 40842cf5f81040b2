"""Settling: what is in the store's streams, up to where all of it is known, into rollups and settled events.

All is known up to the earliest of the watermarks: of each gateway worker, of each machine that has some, and of the
controller, which draws the GPUs. One that was not seen to move for GIVEN_UP_S is not waited for any more, if it is a
worker's or a machine's; what it says later counts, without the GPU time that was settled meanwhile. The controller is
waited for: without it nobody knows what was on the GPUs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis

from gateway.billing import timeline
from gateway.billing.books import BEGINNING, SETTLED_MAX, Books, Overtaken
from gateway.billing.late_charges import Holders, late_charges
from gateway.billing.pricing import Prices, Tariff, with_prices
from gateway.billing.remains import Reckoning
from gateway.billing.settlement import Read, Rules, Settlement, settle, window_end
from gateway.billing.sweep import State
from gateway.billing.timeline import SECOND_US
from gateway.route_reader import RouteReader
from models.store.api_keys import decode_keys
from models.store.codec import decode
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.records import KeyRecord
from models.store.tenancy import HouseRecord, TenantRecord
from models.store.tenants import decode_house, decode_tenants
from models.store.usage import GpuPicture, OpenRequest, Watermark, identity_of

GIVEN_UP_S = 300.0
MOST_HELD = 200_000  # events that are read ahead, and pictures
NEVER_US = 1 << 62
CONTROLLER = "the controller"
log = structlog.get_logger(__name__)


class Known(NamedTuple):
    """Up to when all is known, and what stops it there. ``dropped``: workers that are not waited for."""

    until_us: int
    waits_for: str
    opens: list[OpenRequest]
    dropped: tuple[str, ...]


class _Moment(msgspec.Struct):
    """Of FleetRecord, the one thing that is of interest."""

    updated_unix_s: float


@dataclass(slots=True)
class Settler:
    """``now``: Unix seconds that do not jump. ``settled``, ``late_us``: since it began."""

    redis: Redis
    keys: Keys
    now: Callable[[], float]
    kept: Callable[[], int] = lambda: SETTLED_MAX
    settled: int = 0
    late_us: int = 0
    waits_for: str = ""
    _books: Books = field(init=False)
    _reckoning: Reckoning = field(init=False)
    _state: State | None = None
    _tariffs: list[Tariff] = field(default_factory=list)
    _held: list[Read] = field(default_factory=list)
    _pictures: list[tuple[str, GpuPicture]] = field(default_factory=list)
    _moved: dict[bytes, tuple[int, float]] = field(default_factory=dict)  # watermarks, and when each came to be so
    _read_to: list[str] = field(default_factory=lambda: [BEGINNING, BEGINNING])
    _house: HouseRecord = field(default_factory=HouseRecord)
    _tenants: dict[str, TenantRecord] = field(default_factory=dict)
    _api_keys: dict[str, KeyRecord] = field(default_factory=dict)
    _cards: dict[str, dict[str, str]] = field(default_factory=dict)
    _routes: RouteReader = field(default_factory=RouteReader)
    _version: bytes | None = None  # of the house and the tenants
    _routes_version: int | None = None

    def __post_init__(self) -> None:
        self._books = Books(self.redis, self.keys, self.kept)
        self._reckoning = Reckoning(self.redis, self.keys)

    @property
    def settled_us(self) -> int:
        return self._state.until_us if self._state is not None else 0

    @property
    def held(self) -> int:
        return len(self._held)

    def forget(self) -> None:
        """What is in memory: it is read anew. After anything that leaves open what was written."""
        self._state = None

    async def step(self) -> bool:
        """Settle what can be; whether there is more at once. Raises redis.RedisError; then begin anew (``forget``)."""
        if self._state is None:
            await self._begin()
        assert self._state is not None
        await self._look_at_rules()
        known = await self._look()  # before the streams: what it is about is in them by then
        await self._reckoning.look(self._state)
        await self._read()
        if len(self._held) < MOST_HELD:  # all that there is
            await self._reckoning.set_right(self._state, (event for _, event in self._held))
        tariffs = with_prices(self._tariffs, int(self.now() * SECOND_US), self._house, self._cards)
        rules = Rules(self._house, self._tenants, Prices(tariffs or self._tariffs))
        known_us = min(known.until_us, self._read_all_until())
        until_us = window_end(self._state, self._held, known_us, [picture for _, picture in self._pictures])
        self.waits_for = known.waits_for
        if until_us <= self._state.until_us and not self._ended(until_us) and tariffs is None:
            return False
        pictures = [picture for _, picture in self._pictures]
        ready = timeline.ripe(pictures, until_us)
        begun = self._held[: bisect_left(self._held, until_us, key=_began_us)]
        done = settle(self._state, begun, known.opens, pictures[:ready], until_us, rules)
        self._reckoning.note(self._state, done.settled)
        entries = [entry for entry, _ in self._pictures[:ready]]
        try:
            charges = late_charges(self.keys, done.settled, Holders(self._house, self._tenants, self._api_keys))
            await self._books.write(self._state, done, entries, tariffs, known.dropped, charges)
        except Overtaken:
            self.forget()
            raise
        self._written(done, ready, tariffs)
        return until_us < known_us // SECOND_US * SECOND_US or self._ended(until_us)

    async def _begin(self) -> None:
        state, self._tariffs = await self._books.load()
        self._held, self._pictures = [], []
        self._read_to = [BEGINNING, BEGINNING]
        self._state = state

    def _ended(self, until_us: int) -> bool:
        assert self._state is not None
        awaits = self._state.awaits()
        return any(event.ended_us <= until_us and identity_of(event) not in awaits for _, event in self._held)

    def _read_all_until(self) -> int:
        """Where more is in the stream than is held: up to when all that ended has probably been read, which workers
        ship in the order in which it ended."""
        if len(self._held) < MOST_HELD:
            return NEVER_US
        last: dict[str, int] = {}
        for _, event in self._held:
            last[event.worker] = max(last.get(event.worker, 0), event.ended_us)
        assert self._state is not None
        return max(min(last.values()), self._state.until_us + SECOND_US)

    def _written(self, done: Settlement, pictures: int, tariffs: list[Tariff] | None) -> None:
        settled = set(done.entries)
        self._held = [read for read in self._held if read[0] not in settled]
        del self._pictures[:pictures]
        self._tariffs = tariffs or self._tariffs
        self.settled += len(done.entries)
        if done.late_us:
            self.late_us += done.late_us
            log.warning("requests came to light after their GPU time was settled", late_s=done.late_us / SECOND_US)
        if done.swept.late_us:
            log.warning("what was on GPUs came to light too late", late_s=done.swept.late_us / SECOND_US)
        if done.forgotten:
            log.error("requests whose end nobody told are forgotten", requests=done.forgotten)

    async def _read(self) -> None:
        more, self._read_to[0] = await self._books.events(self._read_to[0], MOST_HELD - len(self._held))
        if more:
            self._held += more
            self._held.sort(key=_began_us)
        pictures, self._read_to[1] = await self._books.pictures(self._read_to[1], MOST_HELD - len(self._pictures))
        self._pictures += pictures

    async def _look(self) -> Known:
        """Raises redis.RedisError."""
        raws: Any = await self.redis.hgetall(self.keys.usage_watermarks)
        fleet = await self._controller_us()
        marks, dropped = [], []
        now_s, before, self._moved = self.now(), self._moved, {}
        for name, raw in raws.items():
            try:
                mark = decode(raw, Watermark, f"{self.keys.usage_watermarks} {name.decode(errors='replace')}")
            except StoreDataError as broken:
                log.error("a watermark cannot be read and is not waited for", reason=str(broken))
                dropped.append(name.decode(errors="surrogateescape"))
                continue
            # By when it moved last, not by its time: clocks of processes may differ when one was set.
            until_us, since_s = before.get(name, (-1, now_s))
            self._moved[name] = moved = (mark.until_us, since_s if until_us == mark.until_us else now_s)
            if now_s - moved[1] >= GIVEN_UP_S:
                log.error("a worker's usage has not come for long and is not waited for", worker=mark.worker)
                dropped.append(mark.worker)
            else:
                marks.append(mark)
        first = min(marks, key=lambda mark: mark.until_us, default=None)
        until_us, waits_for = fleet, CONTROLLER
        if first is not None and first.until_us < until_us:
            until_us, waits_for = first.until_us, first.worker
        opens = [one for mark in marks for one in mark.open]
        return Known(until_us, waits_for, opens, tuple(dropped))

    async def _controller_us(self) -> int:
        """0 while there never was one."""
        raw = await self.redis.get(self.keys.fleet)
        if raw is None:
            return 0
        try:
            return int(msgspec.json.decode(raw, type=_Moment).updated_unix_s * SECOND_US)
        except msgspec.MsgspecError as broken:
            log.error("the controller's state cannot be read", reason=str(broken))
            return 0

    async def _look_at_rules(self) -> None:
        """Raises redis.RedisError."""
        version: Any = await self.redis.get(self.keys.tenancy_version)
        if self._version != version or not self._tariffs:
            house, tenants = await self.redis.get(self.keys.house), await self.redis.hgetall(self.keys.tenants)
            try:
                self._house = decode_house(house)
            except StoreDataError as broken:
                log.error("the house's rules cannot be read; the last ones stay in force", reason=str(broken))
            self._tenants = decode_tenants(tenants, self._tenants)
            api_keys: Any = await self.redis.hgetall(self.keys.api_keys)
            self._api_keys = {record.key_id: record for record in decode_keys(api_keys).values()}
            self._version = version
        try:
            table = await self._routes.newest(self.redis, self.keys.routes, self._routes_version)
        except StoreDataError as broken:
            log.error("the route table cannot be read; prices on cards stay as they were", reason=str(broken))
            return
        if table is not None:
            self._routes_version = table.version
            self._cards = {route.model_id: route.price for route in table.models if route.price}


def _began_us(read: Read) -> int:
    """From when on it matters to the GPUs."""
    event = read[1]
    return event.runs[0].from_us if event.runs else event.ended_us

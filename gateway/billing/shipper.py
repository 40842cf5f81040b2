"""What this machine's gateway workers have metered, from their spools into the store's stream, each event once.

A script compares how far the store has a spool with where the events begin, so it does not matter who ships them, nor
how often: after an end at any moment, or after the store has lost what came last, it goes on from where the store is.
With the last events of a look goes its watermark (``gateway.metering.reader``), and with a dead worker's last ones word
of what its budgets were not told (``gateway.billing.remains``). The machine has a watermark of its own: every worker
that was there by then is known to the store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from gateway.billing.remains import remains_of
from gateway.metering.reader import Look, Spool, SpoolError, clear_away, spools
from models.home import Home
from models.store.codec import encode
from models.store.keys import Keys
from models.store.usage import UsageEvent, Watermark

EVENTS_AT_ONCE = 1000
SECOND_US = 1_000_000
CLEAR_EVERY_S = 60.0
MACHINE = "machine:"

log = structlog.get_logger(__name__)

# KEYS: shipped, events, watermarks, remains. ARGV: spool, offset before, offset after, worker, its watermark: "" as it
# is, "-" for it to go; its remains, "" for none; then events.
_SHIP = """
local found = redis.call('hget', KEYS[1], ARGV[1]) or '0'
if found ~= ARGV[2] then return found end
for i = 7, #ARGV do redis.call('xadd', KEYS[2], '*', 'e', ARGV[i]) end
if ARGV[3] ~= ARGV[2] then redis.call('hset', KEYS[1], ARGV[1], ARGV[3]) end
if ARGV[5] == '-' then redis.call('hdel', KEYS[3], ARGV[4])
elseif ARGV[5] ~= '' then redis.call('hset', KEYS[3], ARGV[4], ARGV[5]) end
if ARGV[6] ~= '' then redis.call('hset', KEYS[4], ARGV[4], ARGV[6]) end
return 1
"""


@dataclass(slots=True)
class _Known:
    spool: Spool
    offset: int = 0
    broken: str = ""


@dataclass(slots=True)
class Shipper:
    """``machine``: names it among all that share the store. ``now``: Unix seconds that do not jump.

    ``shipped``: events, ``lost_bytes``: of logs that could not be read, ``problem``: "" while all is well.
    """

    redis: Redis
    keys: Keys
    home: Home
    machine: str
    now: Callable[[], float]
    shipped: int = 0
    lost_bytes: int = 0
    _known: dict[str, _Known] = field(default_factory=dict)
    _cleared_s: float = float("-inf")
    _script: AsyncScript = field(init=False)

    def __post_init__(self) -> None:
        self._script = self.redis.register_script(_SHIP)

    @property
    def spools(self) -> int:
        return len(self._known)

    @property
    def problem(self) -> str:
        return next((known.broken for known in self._known.values() if known.broken), "")

    async def step(self) -> int:
        """All that is there to be shipped; how many events. Raises redis.RedisError, OSError."""
        looked_us = int(self.now() * SECOND_US)
        before = self.shipped
        found = {spool.worker: spool for spool in await asyncio.to_thread(spools, self.home)}
        self._known = {name: self._known.get(name) or _Known(found[name]) for name in found}
        # Who is new is made known before anybody is taken away, and before the machine says that it knows all.
        alive = {name: found[name].is_alive for name in found}
        for name in sorted(found, key=lambda name: (not alive[name], name)):
            await self._one(self._known[name], alive[name])
        mark = Watermark(worker=f"{MACHINE}{self.machine}", until_us=looked_us)
        await self.redis.hset(self.keys.usage_watermarks, mark.worker, encode(mark))
        await self._clear()
        return self.shipped - before

    async def leave(self) -> None:
        """This machine's last word, when it has no worker left: nobody need wait for its next. Raises RedisError."""
        if not self._known:
            await self.redis.hdel(self.keys.usage_watermarks, f"{MACHINE}{self.machine}")

    async def _one(self, known: _Known, alive: bool) -> None:
        """Raises redis.RedisError, OSError."""
        spool = known.spool
        try:
            if not alive and not await asyncio.to_thread(spool.finish):
                return  # it was not dead
            look = await asyncio.to_thread(spool.look)
            await self._ship(known, look)
            if look.finished:
                await self._remove(known)
            else:
                await asyncio.to_thread(spool.drop, known.offset, self.now())
            known.broken = ""
        except SpoolError as broken:
            self._complain(known, str(broken))
        except FileNotFoundError as gone:
            if spool.folder.exists():
                self._complain(known, f"{spool.folder} is damaged: {gone}")

    async def _ship(self, known: _Known, look: Look) -> None:
        """Until the end of that look, and its watermark with the last of it."""
        name = f"{self.machine}/{look.watermark.worker}"
        last, word = encode(look.watermark), b""
        if look.finished:
            remains = await remains_of(self.redis, self.keys, known.spool)
            last, word = b"-", b"" if remains is None else encode(remains)
        while True:
            batch = await asyncio.to_thread(known.spool.read, known.offset, EVENTS_AT_ONCE)
            done = batch.offset >= look.end or not batch.events
            ending = (last, word) if done else (b"", b"")
            said = await self._call(name, known, batch.offset, ending, batch.events)
            if said != 1:  # the store knows better how far it is
                known.offset = int(said)
                continue
            known.offset = batch.offset
            self.shipped += len(batch.events)
            if batch.lost_bytes:
                self.lost_bytes += batch.lost_bytes
                log.error("a part of a usage log cannot be read", worker=known.spool.worker, bytes=batch.lost_bytes)
            if done:
                return

    async def _call(
        self, name: str, known: _Known, offset: int, ending: tuple[bytes, bytes], events: list[UsageEvent]
    ) -> Any:
        keys = self.keys
        names = [keys.usage_shipped, keys.usage_events, keys.usage_watermarks, keys.usage_remains]
        args: list[Any] = [name, known.offset, offset, known.spool.worker, *ending, *map(encode, events)]
        return await self._script(keys=names, args=args)

    async def _remove(self, known: _Known) -> None:
        """The folder first: while it is there, the store has to know how far it is."""
        if await asyncio.to_thread(known.spool.remove):
            log.info("the usage of a worker that has ended is shipped", worker=known.spool.worker)
            await self.redis.hdel(self.keys.usage_shipped, f"{self.machine}/{known.spool.worker}")
            self._known.pop(known.spool.worker, None)

    async def _clear(self) -> None:
        """What somebody left half done when he was killed. Now and then."""
        if self.now() - self._cleared_s < CLEAR_EVERY_S:
            return
        self._cleared_s = self.now()
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(clear_away, self.home, self.now())
        own = f"{self.machine}/".encode()
        names: Any = await self.redis.hkeys(self.keys.usage_shipped)
        gone = [
            name
            for name in names
            if name.startswith(own) and not (self.home.spool / name[len(own) :].decode()).exists()
        ]
        if gone:
            await self.redis.hdel(self.keys.usage_shipped, *gone)

    def _complain(self, known: _Known, problem: str) -> None:
        if known.broken != problem:
            known.broken = problem
            log.error("a usage log cannot be shipped", worker=known.spool.worker, reason=problem)

"""The settler's side of Redis. One script writes all of a step, or nothing of it.

It begins by comparing the mark of the step that this one goes on from with the one that is there: of two meters that
settle the same, one does; after an end at any moment, the next process goes on from what was written last.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import structlog
from redis.asyncio import Redis

from gateway.billing.pricing import Tariff
from gateway.billing.settlement import Settlement
from gateway.billing.sweep import Place, State
from gateway.limits.reading import Correction
from models.store.codec import encode
from models.store.keys import Keys
from models.store.rollups import DAY_S, DAYS_KEPT_S, HOUR_S, HOURS_KEPT_S
from models.store.usage import GpuPicture, SecondOfGpus, UsageEvent

SETTLED_MAX = 100_000
SECONDS_MAX, SECONDS_BYTES_MAX = 7200, 16 << 20
PAGE = 2000
ASIDE_MAX = 1000
MARK_BYTES = 32
BEGINNING = "-"
T = TypeVar("T", UsageEvent, GpuPicture)

log = structlog.get_logger(__name__)

# KEYS: settling, events, timeline, settled, gpu seconds, prices, watermarks, then hashes to add to.
# ARGV: mark before, state, prices ('' as they are), settled's most, seconds' most, then five lists, each with its
# length before it: events' entries, pictures' entries, settled events, seconds, watermarks to drop; then, as JSON, for
# each of the hashes: when it expires (Unix milliseconds), and field and amount of each. Amounts are texts: a number of
# Lua's would not hold all of them. Last, of the budgets' counters that follow as keys: field, amount, and for how many
# milliseconds to keep one that is new (0: for good).
_SETTLE = """
if (redis.call('getrange', KEYS[1], 0, 31) or '') ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('set', KEYS[6], ARGV[3]) end
local at = 6
local function each(act)
  local last = at + tonumber(ARGV[at])
  for i = at + 1, last do act(ARGV[i]) end
  at = last + 1
end
for _, stream in ipairs({KEYS[2], KEYS[3]}) do
  local last = at + tonumber(ARGV[at])
  for i = at + 1, last, 1000 do redis.call('xdel', stream, unpack(ARGV, i, math.min(last, i + 999))) end
  at = last + 1
end
each(function(event) redis.call('xadd', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'e', event) end)
each(function(second) redis.call('xadd', KEYS[5], 'MAXLEN', '~', ARGV[5], '*', 'g', second) end)
each(function(worker) redis.call('hdel', KEYS[7], worker) end)
for k, sums in ipairs(cjson.decode(ARGV[at])) do
  local key = KEYS[k + 7]
  for i = 2, #sums, 2 do redis.call('hincrby', key, sums[i], sums[i + 1]) end
  redis.call('pexpireat', key, sums[1])
end
local counters = cjson.decode(ARGV[at + 1])
for k, one in ipairs(counters) do
  local key = KEYS[#KEYS - #counters + k]
  local new = redis.call('exists', key) == 0
  redis.pcall('hincrby', key, one[1], one[2])
  if new and one[3] ~= '0' then redis.call('pexpire', key, one[3]) end
end
return 1
"""
# KEYS: stream, aside. ARGV: most, field, then entries: id, value.
_SET_ASIDE = """
for i = 3, #ARGV, 2 do
  if redis.call('xdel', KEYS[1], ARGV[i]) == 1 then
    redis.call('xadd', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', ARGV[2], ARGV[i + 1])
  end
end
"""


class Overtaken(Exception):
    """Another process has settled since, or the store has lost what was settled: nothing was written."""


class Books:
    """``mark``: of the last step that is known to be written. ``kept``: how many settled events stay in the store.

    Every method raises redis.RedisError.
    """

    def __init__(self, redis: Redis, keys: Keys, kept: Callable[[], int] = lambda: SETTLED_MAX) -> None:
        self._redis, self._keys, self._kept = redis, keys, kept
        self._settle = redis.register_script(_SETTLE)
        self._aside = redis.register_script(_SET_ASIDE)
        self.mark = b""

    async def load(self) -> tuple[State, list[Tariff]]:
        """What to go on from. What cannot be read is set aside."""
        raw: Any = await self._redis.get(self._keys.usage_settling)
        prices: Any = await self._redis.get(self._keys.usage_prices)
        self.mark = (raw or b"")[:MARK_BYTES]
        return await self._state(raw), await self._tariffs(prices)

    async def _state(self, raw: bytes | None) -> State:
        if raw is None:
            return State()
        try:
            return msgspec.msgpack.decode(zlib.decompress(raw[MARK_BYTES:]), type=State)
        except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as broken:
            self.mark = b""
            await self._put_aside(self._keys.usage_settling, "GPU time is counted from now on", broken)
            return State()

    async def _tariffs(self, raw: bytes | None) -> list[Tariff]:
        if raw is None:
            return []
        try:
            return msgspec.json.decode(raw, type=list[Tariff])
        except (msgspec.MsgspecError, UnicodeDecodeError) as broken:
            await self._put_aside(self._keys.usage_prices, "what is not settled has the prices of now", broken)
            return []

    async def _put_aside(self, key: str, lost: str, broken: Exception) -> None:
        log.error("what the meter wrote cannot be read and is set aside", key=key, lost=lost, reason=str(broken))
        await self._redis.rename(key, self._keys.set_aside(key))

    async def events(self, after: str, most: int) -> tuple[list[tuple[str, UsageEvent]], str]:
        """Those that follow, page by page, up to about ``most``; and from where to go on."""
        return await self._read(self._keys.usage_events, b"e", UsageEvent, after, most)

    async def pictures(self, after: str, most: int) -> tuple[list[tuple[str, GpuPicture]], str]:
        return await self._read(self._keys.gpu_timeline, b"g", GpuPicture, after, most)

    async def _read(
        self, key: str, name: bytes, kind: type[T], after: str, most: int
    ) -> tuple[list[tuple[str, T]], str]:
        found: list[tuple[str, T]] = []
        decoder = msgspec.json.Decoder(kind)
        while len(found) < most:
            start = after if after == BEGINNING else f"({after}"
            page: Any = await self._redis.xrange(key, min=start, count=PAGE)
            broken: list[bytes] = []
            for entry, fields in page:
                raw = fields.get(name, b"")
                try:
                    found.append((entry.decode(), decoder.decode(raw)))
                except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
                    log.error("what was metered cannot be read and is set aside", key=key, reason=str(problem))
                    broken += [entry, raw]
            if broken:
                await self._aside(keys=[key, self._keys.set_aside(key)], args=[ASIDE_MAX, name, *broken])
            if page:
                after = page[-1][0].decode()
            if len(page) < PAGE:
                break
        return found, after

    async def write(
        self,
        state: State,
        done: Settlement,
        pictures: Sequence[str],
        tariffs: Sequence[Tariff] | None,
        dropped: Sequence[str] = (),
        charges: Sequence[Correction] = (),
    ) -> None:
        """``pictures``: entries that are in the state now. ``tariffs``: None where they are as they were; ``dropped``:
        workers that are not waited for any more; ``charges``: of budgets. Raises Overtaken."""
        keys = self._keys
        mark = os.urandom(MARK_BYTES // 2).hex().encode()
        seconds = [encode(_second(at, sums)) for at, sums in sorted(done.swept.seconds.items())]
        most_seconds = min(SECONDS_MAX, SECONDS_BYTES_MAX // max(1, max(map(len, seconds), default=1)))
        args: list[Any] = [
            self.mark,
            mark + zlib.compress(msgspec.msgpack.encode(state), 1),
            b"" if tariffs is None else encode(tariffs),
            self._kept(),
            most_seconds,
        ]
        for each in (done.entries, pictures, [encode(event) for event in done.settled], seconds, dropped):
            args += [len(each), *each]
        hashes: list[str] = []
        sums_of: list[list[str]] = []
        for name_of, sums, whole_s, kept_s in (
            (keys.usage_hour, done.hours, HOUR_S, HOURS_KEPT_S),
            (keys.usage_day, done.days, DAY_S, DAYS_KEPT_S),
            (keys.gpu_hour, done.gpu_hours, HOUR_S, HOURS_KEPT_S),
            (keys.gpu_day, done.gpu_days, DAY_S, DAYS_KEPT_S),
        ):
            for name, fields in sums.items():
                hashes.append(name_of(name))
                expires_ms = (_begin_s(name) + whole_s + kept_s) * 1000
                amounts = (part for place, amount in fields.items() for part in (place, str(amount)))
                sums_of.append([str(expires_ms), *amounts])
        args += [encode(sums_of), encode([(one.field, str(one.units), str(one.keep_ms)) for one in charges])]
        names = [
            keys.usage_settling, keys.usage_events, keys.gpu_timeline, keys.usage_settled, keys.gpu_seconds,
            keys.usage_prices, keys.usage_watermarks, *hashes, *(one.key for one in charges),
        ]  # fmt: skip
        if not await self._settle(keys=names, args=args):
            raise Overtaken("another meter has settled since, or the store has forgotten it")
        self.mark = mark


def _second(at_s: int, sums: Mapping[Place, int]) -> SecondOfGpus:
    rows = sorted((gpu, str(use), *who, ns) for (gpu, use, who), ns in sums.items() if ns)
    return SecondOfGpus(at_unix_s=at_s, rows=tuple(rows))


def _begin_s(name: str) -> int:
    """Of an hour or a day."""
    text = f"{name}:00" if "T" in name else name
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())

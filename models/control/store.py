"""The controller's side of Redis. Every write is fenced: a controller that is not in office writes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from redis.asyncio import Redis

from models.clock import SinceBoot, since_boot
from models.control.fence import Fence, LeaseLost, StateForgotten, in_time
from models.control.history import Remembered
from models.control.recording import Line, Step, encode_line
from models.store.inspection import LEASE_S
from models.store.keys import (
    DECISIONS_MAX,
    METERS_TTL_S,
    PICTURES_MAX,
    RECORDING_BYTES_MAX,
    RECORDING_TTL_S,
    REPLY_TTL_S,
    SNAPSHOT_TTL_S,
    Keys,
)
from models.store.records import (
    Command,
    CommandReply,
    ControlMeters,
    DecisionRecord,
    DemandReport,
    FleetRecord,
    ModelRecord,
    RouteTable,
)
from models.store.usage import GpuPicture

__all__ = ["ControlStore", "LeaseLost", "RedisControlStore", "StateForgotten"]
log = logging.getLogger("roundhouse.control")
LEASE_MS = round(LEASE_S * 1000)
SCAN_COUNT = 1000
WHOLE_EVERY_S = 1.0  # between two such writes what has not changed is left out
T = TypeVar("T")

# KEYS: epoch, lease, fleet, routes, catalog, decisions, decisions written, decisions aside, routes channel, timeline,
# timeline aside.
# ARGV: epoch, lease ms, fleet, routes, catalog, version, decisions max, decisions written before, how many decisions,
# pictures max, pictures written before, decisions..., pictures...
# Routes and catalog are '' where they are there already.
# Of a write whose answer was lost nobody knows whether it was carried out: it is tried again, and what of its decisions
# and pictures is there already is left out.
_WRITE = """
redis.call('set', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('set', KEYS[3], ARGV[3])
if ARGV[5] ~= '' then redis.call('set', KEYS[5], ARGV[5]) end
local epoch, decided, drawn = string.match(redis.call('get', KEYS[7]) or '', '^(%d+) (%d+) ?(%d*)$')
if epoch ~= ARGV[1] then decided, drawn = 0, 0 end
local function add(key, aside, field, most, there, first, last)
  local kind = redis.call('type', key).ok
  if kind ~= 'stream' and kind ~= 'none' then redis.call('rename', key, aside) end
  for i = first + math.max(0, there), last do redis.call('xadd', key, 'MAXLEN', '~', most, '*', field, ARGV[i]) end
end
local middle = 11 + tonumber(ARGV[9])
add(KEYS[6], KEYS[8], 'd', ARGV[7], tonumber(decided) - ARGV[8], 12, middle)
add(KEYS[10], KEYS[11], 'g', ARGV[10], (tonumber(drawn) or 0) - ARGV[11], middle + 1, #ARGV)
redis.call('set', KEYS[7], string.format('%s %d %d', ARGV[1], ARGV[8] + ARGV[9], ARGV[11] + #ARGV - middle))
if ARGV[4] ~= '' then
  redis.call('set', KEYS[4], ARGV[4])
  redis.call('publish', KEYS[9], ARGV[6])
end
return 1
"""
# KEYS: epoch, reply, commands taken. ARGV: epoch, reply, ttl s, the command as it was taken.
_REPLY = """
redis.call('rpush', KEYS[2], ARGV[2])
redis.call('expire', KEYS[2], ARGV[3])
redis.call('lrem', KEYS[3], 1, ARGV[4])
return 1
"""
# KEYS: epoch, recording. ARGV: epoch, most lines, ttl s, number of the first line, lines...
_RECORD = """
for i = 5, #ARGV do
  redis.call('xadd', KEYS[2], 'MAXLEN', ARGV[2], '*', 'l', ARGV[i], 'n', tonumber(ARGV[4]) + i - 5)
end
redis.call('expire', KEYS[2], ARGV[3])
return 1
"""


class ControlStore(Protocol):
    """Where the loop keeps its state; tests record, production writes to Redis.

    What changes something raises LeaseLost, StateForgotten and RedisError, and has then changed nothing.
    """

    async def load(self) -> FleetRecord | None: ...

    async def write(
        self,
        fleet: FleetRecord,
        routes: RouteTable,
        catalog: tuple[ModelRecord, ...],
        decisions: tuple[DecisionRecord, ...],
        pictures: tuple[GpuPicture, ...] = (),
    ) -> None:
        """All or nothing. Trying again is safe: no decision and no picture is written twice."""

    async def reply(self, reply: CommandReply) -> None: ...

    async def recall(self) -> Remembered | None:
        """What an earlier controller knew of the past; None when there was none, or it wrote something else."""

    async def remember(self, past: Remembered) -> None: ...

    async def meter(self, meters: ControlMeters) -> None:
        """What the controller counts, for whoever scrapes a gateway."""

    async def show(self, step: Step) -> None:
        """What was decided last and from what, for whoever asked to see it."""

    async def record(self, lines: tuple[Line, ...]) -> None:
        """Lines of a recording that is going on."""


class _There(NamedTuple):
    """What was written last, and when all of it was."""

    routes_version: int
    catalog: tuple[ModelRecord, ...]
    whole_at_s: float

    def is_fresh(self, now: float) -> bool:
        return now - self.whole_at_s < WHOLE_EVERY_S


class RedisControlStore:
    """``problems``: what was found under the controller's keys that it could not read, for operators."""

    def __init__(self, redis: Redis, keys: Keys, machine: Callable[[], SinceBoot] = since_boot) -> None:
        self._machine = machine
        self._redis = redis
        self._keys = keys
        self.fence = Fence(redis, keys.controller_epoch)
        self.problems: tuple[str, ...] = ()
        self._taken: dict[str, bytes] = {}  # commands that are not answered yet, as they lie in the list
        self._unreadable: dict[str, str] = {}  # demand reports that were complained of already
        self._decisions = self._pictures = 0
        self._recorded = 0
        self._there: _There | None = None
        self._write, self._reply, self._record = map(self.fence.script, (_WRITE, _REPLY, _RECORD))

    @property
    def epoch(self) -> int:
        return self.fence.epoch

    async def load(self) -> FleetRecord | None:
        """What cannot be read is set aside: engines tell what they are themselves, and the rest is made anew."""
        return await self._load(self._keys.fleet, FleetRecord, "GPUs that were drained by hand may take replicas again")

    async def recall(self) -> Remembered | None:
        return await self._load(self._keys.history, Remembered, "what models cost to start and hold is learned anew")

    async def _load(self, key: str, kind: type[T], lost: str) -> T | None:
        async with in_time():
            raw = await self._redis.get(key)
        try:
            return None if raw is None else msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
            aside = self._keys.set_aside(key)
            async with in_time():
                await self._redis.rename(key, aside)
            text = f"{key} could not be read ({problem}) and was set aside as {aside}: {lost}"
            log.error("%s", text)
            self.problems = (*self.problems, text)
            return None

    async def write(
        self,
        fleet: FleetRecord,
        routes: RouteTable,
        catalog: tuple[ModelRecord, ...],
        decisions: tuple[DecisionRecord, ...],
        pictures: tuple[GpuPicture, ...] = (),
    ) -> None:
        keys, encode = self._keys, msgspec.json.encode
        before, self._there = self._there, None  # whatever befalls this write: then nobody knows what is there
        there = _There(routes.version, catalog, fleet.updated_unix_s)
        if before is not None and before.is_fresh(fleet.updated_unix_s):
            there = there._replace(whole_at_s=before.whole_at_s)
        else:
            before = None
        routes = msgspec.structs.replace(routes, written_unix_s=fleet.updated_unix_s)
        await self._write(
            keys=[
                keys.controller_lease,
                keys.fleet,
                keys.routes,
                keys.catalog,
                keys.decisions,
                keys.decisions_written,
                keys.set_aside(keys.decisions),
                keys.routes_channel,
                keys.gpu_timeline,
                keys.set_aside(keys.gpu_timeline),
            ],
            args=[
                LEASE_MS,
                encode(self._signed(fleet)),
                b"" if before is not None and before.routes_version == routes.version else encode(routes),
                b"" if before is not None and before.catalog is catalog else encode(catalog),
                routes.version,
                DECISIONS_MAX,
                self._decisions,
                len(decisions),
                PICTURES_MAX,
                self._pictures,
                *(encode(decision) for decision in decisions),
                *(encode(picture) for picture in pictures),
            ],
        )
        self._decisions += len(decisions)
        self._pictures += len(pictures)
        self._there = there

    def _signed(self, fleet: FleetRecord) -> FleetRecord:
        """With who wrote it, and when by a clock that nobody sets."""
        machine = self._machine()
        return msgspec.structs.replace(
            fleet,
            epoch=self.epoch,
            problems=(*fleet.problems, *self.problems),
            boot=machine.boot,
            since_boot_s=machine.since_s,
        )

    async def take_command(self, wait_s: float) -> Command | None:
        """The next one that somebody has pushed, within ``wait_s``. It stays in the list of those taken until it is
        answered. None also for what cannot be read, which is thrown away."""
        async with in_time(wait_s + 2.0):
            raw: Any = await self._redis.blmove(self._keys.commands, self._keys.commands_taken, wait_s, "LEFT", "RIGHT")  # type: ignore[arg-type]
        return None if raw is None else await self._read_command(raw)

    async def untold_commands(self) -> list[Command]:
        """Those that were taken and not answered, by an earlier controller, or unheard because the connection broke."""
        async with in_time():
            raws: Any = await self._redis.lrange(self._keys.commands_taken, 0, -1)
        known = set(self._taken.values())
        found = [await self._read_command(raw) for raw in raws if raw not in known]
        return [command for command in found if command is not None]

    async def _read_command(self, raw: bytes) -> Command | None:
        try:
            command = msgspec.json.decode(raw, type=Command)
        except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
            log.warning(
                "what somebody pushed on %s is no command and was thrown away: %s", self._keys.commands, problem
            )
            async with in_time():
                await self._redis.lrem(self._keys.commands_taken, 1, raw)  # type: ignore[arg-type]
            return None
        self._taken[command.id] = raw
        return command

    def untell(self, command: Command) -> None:
        """It could not be seen to: ``untold_commands`` is to give it again."""
        self._taken.pop(command.id, None)

    async def reply(self, reply: CommandReply) -> None:
        taken = self._taken.get(reply.id, b"")
        await self._reply(
            keys=[self._keys.reply(reply.id), self._keys.commands_taken],
            args=[msgspec.json.encode(reply), REPLY_TTL_S, taken],
        )
        self._taken.pop(reply.id, None)

    async def remember(self, past: Remembered) -> None:
        await self.fence.put(self._keys.history, await asyncio.to_thread(msgspec.json.encode, past))

    async def meter(self, meters: ControlMeters) -> None:
        await self.fence.put(self._keys.meters, msgspec.json.encode(meters), METERS_TTL_S)

    async def show(self, step: Step) -> None:
        await self.fence.put(self._keys.snapshot, await asyncio.to_thread(encode_line, step), SNAPSHOT_TTL_S)

    async def record(self, lines: tuple[Line, ...]) -> None:
        written = await asyncio.to_thread(lambda: [encode_line(line) for line in lines])
        most = max(1, RECORDING_BYTES_MAX // max(map(len, written)))
        first, self._recorded = self._recorded + 1, self._recorded + len(written)
        await self._record(keys=[self._keys.recording], args=[most, RECORDING_TTL_S, first, *written])

    def announced(self, raw: bytes | str) -> DemandReport | None:
        """What came over the channel; None for what is no report."""
        return self._report(self._keys.demand_channel, raw)

    async def all_demand(self) -> list[DemandReport]:
        async with in_time():
            names = [name async for name in self._redis.scan_iter(match=self._keys.demand_pattern, count=SCAN_COUNT)]
            raws = await self._redis.mget(names) if names else []
        found = [self._report(name.decode(), raw) for name, raw in zip(names, raws, strict=True) if raw is not None]
        return [report for report in found if report is not None]

    def _report(self, key: str, raw: bytes | str) -> DemandReport | None:
        """One that nobody can read keeps nobody from reading the others."""
        try:
            return msgspec.json.decode(raw, type=DemandReport)
        except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
            self._complain(key, problem)
            return None

    def _complain(self, key: str, problem: Exception) -> None:
        if self._unreadable.get(key) != str(problem):
            self._unreadable[key] = str(problem)
            log.warning("what lies under %s is no demand report and is left out: %s", key, problem)

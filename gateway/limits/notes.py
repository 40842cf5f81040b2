"""What a worker's requests under way had reserved of budgets, as the store has a note of it; and how that is set right
once the worker is dead (``gateway.limits.script``).

All that the worker ever counted stays, but for what was only reserved, and what it had leased: they are taken back, and
what its usage was beyond that report is charged instead. Counter by counter, in one script with the end of the note: it
is done once, however often it is tried. A machine that never comes back leaves logs that nobody finishes: what its
workers had reserved stays counted until the period ends.

GPU time is exact for what is charged here. What a worker reported itself is its own measure of it, which knows no other
workers' requests on the same replica; that is not corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from gateway.accounts import HOUSE, Placed
from models.store.keys import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

# KEYS: counter, notes. ARGV: worker, the note as it was read, whether the lease goes back, then slots and units. A slot
# that is forgotten stays so: its period has been over for long.
_SET_RIGHT = """
local me = ARGV[1]
if (redis.pcall('HGET', KEYS[1], 'o:' .. me) or '') ~= ARGV[2] then return 0 end
local newest = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  newest = math.max(newest, string.match(field, '^%d+$') and tonumber(field) or 0)
end
local function add(slot, units)
  if tonumber(slot) >= newest or redis.call('HEXISTS', KEYS[1], slot) == 1 then
    redis.call('HINCRBY', KEYS[1], slot, units)
  end
end
if ARGV[3] == '1' then
  local at, lease = string.match(redis.call('HGET', KEYS[1], 'x:' .. me) or '', '^(%d+) (%d+) ')
  if at and lease ~= '0' then add(at, '-' .. lease) end
  for i = 4, #ARGV, 2 do add(ARGV[i], ARGV[i + 1]) end
  redis.call('HDEL', KEYS[1], 'w:' .. me, 'x:' .. me)
end
redis.call('HDEL', KEYS[1], 'o:' .. me)
redis.call('HDEL', KEYS[2], KEYS[1])
return 1
"""

log = structlog.get_logger(__name__)


class Note(NamedTuple):
    """Of one counter. ``written``: an offset in its worker's log; what ends beyond it is not counted as used yet.
    ``held``: slot -> units. ``text``: all that as it is in the store."""

    key: str
    placed: Placed
    text: str
    written: int
    held: Mapping[int, int]


def about_of(placed: Placed) -> str:
    return msgspec.json.encode(placed).decode()


def note_of(written: int, held: Mapping[int, int]) -> str:
    return " ".join(str(number) for number in (written, *(number for pair in held.items() for number in pair)))


async def notes_of(redis: Redis, keys: Keys, worker: str) -> list[Note]:
    """All that there are of this worker. Raises redis.RedisError."""
    found: Any = await redis.hgetall(keys.limit_notes(worker))
    async with redis.pipeline(transaction=False) as pipe:
        for key in found:
            pipe.hget(key, f"o:{worker}")
        texts: Any = await pipe.execute(raise_on_error=False)
    notes = []
    for (key, about), text in zip(found.items(), texts, strict=True):
        note = None if text is None else _read(key.decode(), about, text)
        if note is None:  # its counter is gone, or is none
            await redis.hdel(keys.limit_notes(worker), key)
        else:
            notes.append(note)
    return notes


def _read(key: str, about: bytes, text: object) -> Note | None:
    try:
        if not isinstance(text, bytes):
            raise ValueError(f"{text!r}")
        written, *rest = map(int, text.split())
        held = dict(zip(rest[::2], rest[1::2], strict=True))
        return Note(key, msgspec.json.decode(about, type=Placed), text.decode(), written, held)
    except (ValueError, UnicodeDecodeError, msgspec.MsgspecError) as broken:
        log.error("what a worker had reserved cannot be read and stays counted", key=key, reason=str(broken))
        return None


async def set_right(redis: Redis, keys: Keys, worker: str, note: Note, charges: Mapping[int, int] | None) -> bool:
    """``charges``: slot -> units that were used beyond what was reported; None: nobody knows, and all stays as it is
    counted. False: the note is another one by now. Raises redis.RedisError."""
    units: dict[int, int] = {}
    if charges is not None:
        for slot in {*note.held, *charges}:
            units[slot] = charges.get(slot, 0) - note.held.get(slot, 0)
    args: list[Any] = [worker, note.text, int(charges is not None)]
    args += [number for pair in sorted(units.items()) for number in pair if pair[1]]
    script = redis.register_script(_SET_RIGHT)
    return bool(await script(keys=[note.key, keys.limit_notes(worker)], args=args))


def concerns(placed: Placed, *, key_id: str, project: str, tenant: str, model: str) -> bool:
    """Whether a rule holds for such a request."""
    places = (f"key:{key_id}", f"project:{tenant}/{project}", f"tenant:{tenant}", HOUSE)
    return placed.place in places and fnmatchcase(model, placed.rule.models)

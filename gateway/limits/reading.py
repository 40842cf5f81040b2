"""Limits as they are in the store, for who shows them, and corrections of budgets by who settles them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.accounts import Placed
from gateway.limits.script import LEASE_US, OLD_PERIODS_MS
from gateway.limits.windows import NEVER_US, SLOTS, Shape, Window, window_of
from models.store.keys import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

_ADJUST = """
local slot = redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '0' and redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return slot
"""


@dataclass(frozen=True, slots=True)
class RuleUse:
    """Of one rule, in its whole units. ``used``: what counts now, of requests under way what is reserved for them.
    ``in_hand``: what workers have leased besides. ``resets_us``: Unix microseconds; None where it does not."""

    placed: Placed
    used: int
    in_hand: int
    resets_us: int | None

    @property
    def amount(self) -> int:
        return self.placed.rule.units

    @property
    def left(self) -> int:
        return max(0, self.amount - self.used)


async def usage_of(redis: Redis, keys: Keys, places: Iterable[Placed], now_us: int) -> list[RuleUse]:
    """In their order. ``now_us``: by a steady clock. Raises UnknownWindow, redis.RedisError."""
    asked = list(places)
    async with redis.pipeline(transaction=False) as pipe:
        for placed in asked:
            pipe.hgetall(keys.limit(placed.place, placed.rule.name))
        found: list[Any] = await pipe.execute()
    return [use_of(placed, fields, now_us) for placed, fields in zip(asked, found, strict=True)]


def use_of(placed: Placed, fields: Mapping[bytes, bytes], now_us: int) -> RuleUse:
    """``fields``: of the counter (``gateway.limits.script``). Raises UnknownWindow."""
    window = window_of(placed.rule)
    now_us = max(now_us, int(fields.get(b"t", b"0")))
    slots = {int(name): max(0, int(units)) for name, units in fields.items() if name.isdigit()}
    leased = busy = 0
    for name, value in fields.items():
        if name.startswith(b"w:"):
            _, lease, held, until_us = map(int, value.split())
            if until_us >= now_us or window.shape is not Shape.AT_ONCE:
                leased, busy = leased + lease, busy + held
    present = window.slot(now_us)
    oldest = present - SLOTS if window.shape is Shape.SLIDING else present
    counted = {slot: units for slot, units in slots.items() if slot >= oldest and units}
    return RuleUse(placed, sum(counted.values()) + busy, leased, _resets_us(window, counted, present))


def _resets_us(window: Window, counted: Mapping[int, int], present: int) -> int | None:
    if window.shape is Shape.AT_ONCE:
        return None
    if window.shape is Shape.SLIDING:
        return window.frees_us(max(counted)) if counted else None
    ends_us = window.ends_us(present)
    return None if ends_us >= NEVER_US else ends_us


@dataclass(frozen=True, slots=True)
class Correction:
    """To be added to the ``field`` of the hash ``key``, which is then to be kept for ``keep_ms`` if it was not there
    before (0: for good). Adding it twice counts it twice: who may be cut off does it in a script with what tells."""

    key: str
    field: str
    units: int
    keep_ms: int


def correction(keys: Keys, placed: Placed, units: int, at_us: int) -> Correction | None:
    """``units``: more (or less) than was settled of a request that was admitted at ``at_us``.

    None where the rule is no budget: windows pass by themselves. Raises UnknownWindow.
    """
    window = window_of(placed.rule)
    if window.shape is not Shape.CALENDAR or not units:
        return None
    slot = window.slot(at_us)
    ends_us = window.ends_us(slot)
    keep_ms = 0 if ends_us >= NEVER_US else max(0, ends_us - at_us) // 1000 + LEASE_US // 1000 + OLD_PERIODS_MS
    return Correction(keys.limit(placed.place, placed.rule.name), str(slot), units, keep_ms)


async def adjust(redis: Redis, keys: Keys, placed: Placed, units: int, at_us: int) -> bool:
    """Whether there was anything to correct (``correction``). Raises UnknownWindow, redis.RedisError."""
    what = correction(keys, placed, units, at_us)
    if what is None:
        return False
    script = redis.register_script(_ADJUST)
    await script(keys=[what.key], args=[what.field, what.units, what.keep_ms])
    return True

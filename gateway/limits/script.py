"""The one script that all counting goes through, and how it is called. Times are Unix microseconds.

A counter is a hash:

| field | holds |
| --- | --- |
| a slot's number | what was used in it (``gateway.limits.windows``) |
| ``w:`` worker | what that worker has in hand: ``number lease in-use until``, as of its report of that number |
| ``x:`` worker | of one that is not heard of any more: where its lease is counted: ``slot lease number until`` |
| ``t`` | the latest time that any worker told: time never goes back here |
| ``o:`` worker | of a calendar's, what it had reserved as of that report: ``written slot units ...`` |
| ``a:`` share | when it was last told that so much is used; ``e``: that somebody was refused |

A worker reports what it used, slot by slot, how much of its lease that was and how much it keeps; and asks for more. A
report that came before, by its number, is not counted again. What is in hand counts as used for everybody else, so all
workers together never have more than the amount. Who asks for what is there gets it; beyond that only small chunks are
lent. What a worker had in hand that is not heard of any more counts as used, until it comes back after all; of what is
counted at once it is free again.

What is reserved for requests under way is counted in slots like what is used. In a budget that would stay so until its
period ends, were their worker killed. So each report says how much of what was counted there is of that kind, by slots,
and how far the worker's log of usage was (``written``: an offset, ``gateway.metering.reader``): what lies beyond it in
that log is counted at most as reserved. A hash lists the counters of each worker: there the meter finds them when it
has shipped the last of a dead worker's log, and sets them right (``gateway.limits.notes``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.limits.windows import SLOTS
from models.store.alerts import ALERTS_MAX

LEASE_US = 15_000_000  # a worker that was not heard of for so long has lost what it had in hand
BACK_US = 3_600_000_000  # ... and gets it back if it returns within this time
OLD_PERIODS_MS = 40 * 86_400_000  # how long a budget is remembered after its period

SCRIPT = (
    """
local now, lease_us, me, workers = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local back_us = """
    + str(BACK_US)
    + """
local asks = cjson.decode(ARGV[5])
local SLIDING, CALENDAR, AT_ONCE, SLOTS = 0, 1, 2, """
    + str(SLOTS)
    + """
local function whole(n) return string.format('%.0f', n) end

local function read(key)
  local all = redis.pcall('HGETALL', key)
  if all.err then return nil end  -- it is no hash: somebody else's
  local it = {t = now, slots = {}, hands = {}, lost = {}, marks = {}}
  for i = 1, #all, 2 do
    local field, value = all[i], all[i + 1]
    local slot = tonumber(field)
    local kind = string.sub(field, 1, 2)
    if slot then it.slots[slot] = tonumber(value)
    elseif field == 't' then it.t = math.max(now, tonumber(value))
    elseif kind == 'w:' then
      local n, lease, busy, till = string.match(value, '^(%d+) (%d+) (%d+) (%d+)$')
      it.hands[string.sub(field, 3)] = {n = tonumber(n), lease = tonumber(lease), busy = tonumber(busy),
        till = tonumber(till)}
    elseif kind == 'x:' then
      local at, lease, n, till = string.match(value, '^(%d+) (%d+) (%d+) (%d+)$')
      it.lost[string.sub(field, 3)] = {at = tonumber(at), lease = tonumber(lease), n = tonumber(n),
        till = tonumber(till)}
    elseif kind ~= 'o:' then it.marks[field] = tonumber(value) end
  end
  return it
end

local function add(key, it, slot, units)
  it.slots[slot] = (it.slots[slot] or 0) + units
  redis.call('HINCRBY', key, whole(slot), whole(units))
end

local function forget_old(key, it, ask)  -- slots that count no more; a calendar's last period is kept for late reports
  local cur, oldest = ask.slot, ask.slot
  if ask.shape == SLIDING then
    cur = math.floor(it.t / ask.slot_us)
    oldest = cur - SLOTS
  else
    for slot in pairs(it.slots) do
      cur = math.max(cur, slot)
    end
    oldest = -1
    for slot in pairs(it.slots) do
      if slot < cur then oldest = math.max(oldest, slot) end
    end
  end
  local gone = {}
  for slot in pairs(it.slots) do
    if slot < oldest then gone[#gone + 1] = slot end
  end
  for _, slot in ipairs(gone) do
    it.slots[slot] = nil
    redis.call('HDEL', key, whole(slot))
  end
  for name, lost in pairs(it.lost) do
    if lost.at < oldest or lost.till < it.t then redis.call('HDEL', key, 'x:' .. name) end
  end
  it.cur, it.oldest = cur, oldest
end

local function write_off(key, it, ask)
  for name, hand in pairs(it.hands) do
    if name ~= me and hand.till < it.t then
      redis.call('HDEL', key, 'w:' .. name)
      it.hands[name] = nil
      if ask.shape ~= AT_ONCE then
        if hand.lease > 0 then add(key, it, it.cur, hand.lease) end
        redis.call('HSET', key, 'x:' .. name,
          whole(it.cur) .. ' ' .. whole(hand.lease) .. ' ' .. whole(hand.n) .. ' ' .. whole(it.t + back_us))
      end
    end
  end
end

local function mine(key, it)  -- what this worker had when it was last heard of, though it was thought dead since
  local hand, lost = it.hands[me], it.lost[me]
  if hand or not lost then return hand end
  redis.call('HDEL', key, 'x:' .. me)
  if lost.lease > 0 and lost.at >= it.oldest then add(key, it, lost.at, -lost.lease) end
  return lost
end

local function backing(hand, ask)  -- what of the lease that it keeps is its own
  if not hand then return 0 end
  return math.min(ask.keep, math.max(0, hand.lease - ask.spent))
end

local function used_in(it, ask)
  local used, newest = 0, 0
  for slot, units in pairs(it.slots) do
    if slot >= it.oldest and (ask.shape == SLIDING or slot == it.cur) then
      used = used + math.max(0, units)
      if units > 0 then newest = math.max(newest, slot) end
    end
  end
  return used, newest
end

local function frees(it, ask, short)  -- when so much more is free
  if ask.least > ask.amount then return -1 end
  if ask.shape == CALENDAR then return ask.ends end
  local order = {}
  for slot in pairs(it.slots) do
    if slot >= it.oldest then order[#order + 1] = slot end
  end
  table.sort(order)
  for _, slot in ipairs(order) do
    short = short - math.max(0, it.slots[slot])
    if short <= 0 then return (slot + SLOTS + 1) * ask.slot_us end
  end
  return 0  -- others have it in hand, and may give it back at any time
end

local function tell(key, it, ask, field, used, head)
  local mark = it.marks[field]
  if mark and ask.shape == CALENDAR and mark >= it.cur then return end
  if mark and ask.shape ~= CALENDAR and mark + ask.length + ask.slot_us > it.t then return end
  redis.call('HSET', key, field, whole(ask.shape == CALENDAR and it.cur or it.t))
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', '"""
    + str(ALERTS_MAX)
    + """', '*', 'a',
    head .. ',"used":' .. whole(used) .. ',"at":' .. whole(it.t) .. '}')
end

local function note(key, ask, kept)
  if ask.about == '' then return end
  if ask.last and kept == 0 then
    redis.call('HDEL', key, 'o:' .. me)
    redis.call('HDEL', KEYS[2], key)
    return
  end
  redis.call('HSET', key, 'o:' .. me, ask.note)
  redis.call('HSET', KEYS[2], key, ask.about)
  redis.call('PEXPIRE', KEYS[2], '"""
    + str(OLD_PERIODS_MS)
    + """')
end

local function keep_for(key, it, ask)
  if ask.shape == CALENDAR and ask.ends < 0 then redis.call('PERSIST', key) return end
  local ms = 2 * lease_us / 1000 + 60000
  if ask.shape == SLIDING then ms = ms + 2 * ask.length / 1000 end
  if ask.shape == CALENDAR then ms = ms + math.max(0, ask.ends - it.t) / 1000 + """
    + str(OLD_PERIODS_MS)
    + """ end
  redis.call('PEXPIRE', key, whole(ms))
end

local function count(key, ask)
  local it = read(key)
  if not it then return {} end
  forget_old(key, it, ask)
  write_off(key, it, ask)
  local hand, kept, again = mine(key, it), 0, 0
  if hand and hand.n == ask.n then
    again, kept = 1, hand.lease
  else
    kept = backing(hand, ask)
    for _, pair in ipairs(ask.slots) do
      if pair[1] >= it.oldest then add(key, it, math.min(pair[1], it.cur), pair[2]) end
    end
  end
  local used, newest = used_in(it, ask)
  local others, busy, live = 0, 0, 1
  for name, other in pairs(it.hands) do
    if name ~= me then
      others, busy, live = others + other.lease + other.busy, busy + other.busy, live + 1
    end
  end
  local free = ask.amount - used - others - ask.busy - kept
  local given, refused, when = 0, 0, 0
  if again == 0 then
    if ask.need > 0 then
      if free >= ask.least then given = math.min(ask.need, free) end
      if given < ask.need then
        refused, when = 1, frees(it, ask, ask.least - free)
      end
    end
    local more = math.min(ask.extra + ask.keep - kept, math.floor((free - given) / (2 * math.max(workers, live))))
    more = math.min(more, math.floor(ask.amount / 50) - kept - given)
    if more > 0 and refused == 0 then given = given + more end
    kept = kept + given
  end
  redis.call('HSET', key, 't', whole(it.t), 'w:' .. me,
    whole(ask.n) .. ' ' .. whole(kept) .. ' ' .. whole(ask.busy) .. ' ' .. whole(it.t + lease_us))
  local sum = used + busy + ask.busy
  for _, alarm in ipairs(ask.alarms) do
    if sum >= alarm[2] then tell(key, it, ask, alarm[1], sum, alarm[3]) end
  end
  if refused == 1 and ask.exceeded ~= '' then tell(key, it, ask, 'e', sum, ask.exceeded) end
  note(key, ask, kept)
  keep_for(key, it, ask)
  return {used + busy, kept, refused, when, it.t, newest, live, again, math.max(0, free - given)}
end

local answers = {}
for i, ask in ipairs(asks) do
  answers[i] = count(KEYS[i + 2], ask)
end
return answers
"""
)


class Ask(msgspec.Struct, frozen=True):
    """Of one counter. ``n``: the number of this report. ``slots``: what was used since the last one, by slots;
    ``spent``: of the lease. ``keep``: of the lease, ``busy``: what is held at once. ``need``: what requests wait for,
    of which the smallest takes ``least``; ``extra``: what it could do with besides.

    ``slot``, ``ends``: a calendar's present period; -1: it has no end. ``alarms``: (field, units, head of an alert).
    ``about``: of a calendar's, the rule and its place (``gateway.limits.notes``), ``note``: what is written of it,
    ``last``: nothing any more.
    """

    n: int
    shape: int
    amount: int
    slot: int
    slot_us: int
    length: int
    ends: int
    slots: list[tuple[int, int]]
    spent: int
    keep: int
    busy: int
    need: int
    least: int
    extra: int
    alarms: tuple[tuple[str, int, str], ...]
    exceeded: str
    about: str = ""
    note: str = ""
    last: bool = False


class Told(NamedTuple):
    """``used``: by all, as it counts now; at once: by the others. ``lease``: what this worker has in hand now.
    ``frees_us``: when what was refused fits; 0: at any time, -1: never. ``again``: that report had come before.
    ``free``: what nobody has."""

    used: int
    lease: int
    refused: int
    frees_us: int
    now_us: int
    newest: int
    workers: int
    again: int
    free: int


def arguments(now_us: int, worker: str, workers: int, asks: list[Ask]) -> list[Any]:
    return [now_us, LEASE_US, worker, workers, msgspec.json.encode(asks)]

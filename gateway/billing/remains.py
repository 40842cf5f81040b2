"""Budgets of workers that were killed: what their requests under way had reserved goes back, and what they really used
is charged.

When a dead worker's log is shipped, the shipper leaves word of the last events in it, which its limits may not have
been told of (``remains_of``). The settler takes down what each of them comes to be settled at; that is kept with its
state, so an end at any moment loses nothing of it. With the last of them the counters are set right
(``gateway.limits.notes``). Until then what was reserved stays counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from gateway.billing.late_charges import START
from gateway.billing.sweep import State
from gateway.limits.notes import Note, concerns, notes_of, set_right
from gateway.limits.windows import UnknownWindow, window_of
from gateway.metering.reader import Spool
from models.store.codec import decode
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.remains import Remainder, Remains, Spent
from models.store.tenancy import What
from models.store.usage import SettledEvent, UsageEvent, identity_of

PAGE = 2000
NS_IN_US = 1000

log = structlog.get_logger(__name__)


async def remains_of(redis: Redis, keys: Keys, spool: Spool) -> Remains | None:
    """Of a spool that is finished; None: its worker had nothing of any budget. Raises redis.RedisError, OSError,
    SpoolError."""
    notes = await notes_of(redis, keys, spool.worker)
    return await asyncio.to_thread(_unreported, spool, notes) if notes else None


def _unreported(spool: Spool, notes: list[Note]) -> Remains:
    events: dict[str, int] = {}
    for event, end in spool.beyond(min(note.written for note in notes)):
        if any(end > note.written and _concerns(note, event) for note in notes):
            events[identity_of(event)] = end
    return Remains(worker=spool.worker, events=events)


def _concerns(note: Note, one: UsageEvent | Spent) -> bool:
    return concerns(note.placed, key_id=one.key_id, project=one.project, tenant=one.tenant, model=one.model)


@dataclass(slots=True)
class Reckoning:
    """The settler's part: ``look`` before the streams are read, ``set_right`` after that, ``note`` what is settled."""

    redis: Redis
    keys: Keys

    async def look(self, state: State) -> None:
        """Who has died. Raises redis.RedisError."""
        found: Any = await self.redis.hgetall(self.keys.usage_remains)
        names = {name.decode(errors="surrogateescape"): raw for name, raw in found.items()}
        for worker in [worker for worker in state.remains if worker not in names]:
            del state.remains[worker]  # it is done
        for worker, raw in names.items():
            if worker in state.remains:
                continue
            try:
                remains = decode(raw, Remains, f"{self.keys.usage_remains} {worker}")
            except StoreDataError as broken:
                log.error("what a dead worker had reserved stays counted", worker=worker, reason=str(broken))
                await self._end(worker, None)
            else:
                state.remains[worker] = Remainder(waiting=dict(remains.events))

    def note(self, state: State, settled: Iterable[SettledEvent]) -> None:
        """What has just been settled, and is to be written with this state."""
        if state.remains:
            for event in settled:
                remainder = state.remains.get(event.worker)
                end = None if remainder is None else remainder.waiting.pop(identity_of(event), None)
                if remainder is not None and end is not None:
                    remainder.spent.append(spent_of(event, end))

    async def set_right(self, state: State, held: Iterable[UsageEvent]) -> None:
        """``held``: all that are shipped and not settled. Raises redis.RedisError."""
        waited_for = set()
        if state.remains:
            waited_for = {identity_of(event) for event in held if event.worker in state.remains}
        for worker, remainder in list(state.remains.items()):
            settled = [name for name in remainder.waiting if name not in waited_for]
            if settled:  # before anybody knew that it is dead
                await self._find(remainder, set(settled))
            if not remainder.waiting.keys() & waited_for and await self._end(worker, remainder):
                del state.remains[worker]

    async def _find(self, remainder: Remainder, names: set[str]) -> None:
        """What these came to. Raises redis.RedisError."""
        before = "+"
        while names:
            page: Any = await self.redis.xrevrange(self.keys.usage_settled, max=before, count=PAGE)
            for _, fields in page:
                try:
                    event = msgspec.json.decode(fields.get(b"e", b""), type=SettledEvent)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
                name = identity_of(event)
                if name in names:
                    names.discard(name)
                    remainder.spent.append(spent_of(event, remainder.waiting.pop(name)))
            if len(page) < PAGE:
                return
            before = f"({page[-1][0].decode()}"

    async def _end(self, worker: str, remainder: Remainder | None) -> bool:
        """Whether all of its counters are right now. Raises redis.RedisError."""
        known = remainder is not None and not remainder.waiting
        if not known:
            log.error("what a dead worker used last is not known: its budgets keep what it had reserved", worker=worker)
        done = True
        for note in await notes_of(self.redis, self.keys, worker):
            spent = remainder.spent if remainder is not None and known else None
            charges = None if spent is None else charges_of(note, spent)
            done = await set_right(self.redis, self.keys, worker, note, charges) and done
        if done:
            await self.redis.hdel(self.keys.usage_remains, worker)
        return done


def spent_of(event: SettledEvent, end: int) -> Spent:
    """A request counts as one that was answered: not where it came to nothing by no fault of its caller's."""
    answered = bool(event.runs) and event.status < 500 and event.status != 429
    gpu_us, rest = divmod(event.gpu_ns, NS_IN_US)
    return Spent(
        end=end,
        key_id=event.key_id,
        project=event.project,
        tenant=event.tenant,
        model=event.model,
        started_us=event.started_us,
        requests=int(answered),
        input_tokens=event.prompt_tokens,
        output_tokens=event.completion_tokens,
        gpu_us=gpu_us + (2 * rest >= NS_IN_US),
        cost=event.cost - event.lines.get(START, 0),  # that is charged as it is settled, whoever has died
    )


def charges_of(note: Note, spent: Iterable[Spent]) -> dict[int, int] | None:
    """Slot -> units, of what is not counted there. None: nobody can count by that rule any more."""
    try:
        window = window_of(note.placed.rule)
    except UnknownWindow:
        return None
    charges: dict[int, int] = {}
    for one in spent:
        if one.end > note.written and _concerns(note, one):
            slot = window.slot(one.started_us)
            charges[slot] = charges.get(slot, 0) + _units(note.placed.rule.what, one)
    return charges


def _units(what: What, one: Spent) -> int:
    if what is What.REQUESTS:
        return one.requests
    if what is What.GPU_SECONDS:
        return one.gpu_us
    if what is What.MONEY:
        return one.cost
    return (what is not What.OUTPUT_TOKENS) * one.input_tokens + (what is not What.INPUT_TOKENS) * one.output_tokens

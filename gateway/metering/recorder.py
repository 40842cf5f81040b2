"""What a worker writes down of its requests: an event of each when it is over, and which are under way meanwhile.

``until_us`` in its spool says how far both are complete. A tick at T makes it T less GRACE: whatever ended before has
its event, and whatever was on a replica then has an event or a place in the table, where all that were sent to one
before T less GRACE are put first. Times are of one clock that does not jump, as it was at the last tick (``ahead_s``).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.exchange import Usage
from gateway.metering import mapped
from gateway.metering.frames import ESTIMATED, STREAM, USUAL, Stay, microseconds, pack_usual
from gateway.metering.layout import (
    END_WORD,
    FORMAT,
    LOCK,
    MAGIC,
    SEGMENT_BYTES,
    STATE,
    STATE_BYTES,
    STATE_NAME,
    UNTIL_WORD,
)
from gateway.metering.log import ROOM_BYTES, Log
from gateway.metering.metered import Metered
from gateway.metering.table import OpenRecord, Table
from models.home import Home
from models.store.usage import Run, UsageEvent

if TYPE_CHECKING:
    from gateway.accounts import Account
    from gateway.exchange import Exchange

GRACE_US = 100_000
MOST_TOKENS = (1 << 32) - 1
NO_USAGE = Usage()
RETRY_AFTER_S = 5.0
BEING_MADE = ".new-"  # how the name of a folder begins that is not locked yet

log = structlog.get_logger(__name__)


class Recorder:
    """Of one worker. Not for use by several threads."""

    def __init__(
        self,
        home: Home,
        worker: str,
        clock: Clock,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        """Raises OSError: there is no place for its spool."""
        self.full = False  # neither the disk nor the memory takes another event
        self._clock = clock
        self._now = clock.monotonic
        self.ahead_s = clock.steady() - clock.monotonic()
        if (home.spool / worker).exists():  # one of before had that name; its spool is its own
            worker = f"{worker}-{secrets.token_hex(4)}"
        self.folder = home.spool / worker
        making = home.spool / f"{BEING_MADE}{worker}"
        making.mkdir(mode=0o700, parents=True)
        # Locked before it has its name: who looks after the spools of dead workers never sees it without.
        self._lock = os.open(making / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = mapped.create(making / STATE_NAME, STATE_BYTES, room_bytes)
        state[: STATE.size] = STATE.pack(MAGIC, FORMAT, 0)
        self._words = memoryview(state).cast("Q")
        self._words[UNTIL_WORD] = self.us(self._now()) - GRACE_US
        making.rename(self.folder)
        self._table = Table(self.folder, room_bytes)
        self._log = Log(self.folder, segment_bytes, room_bytes)

    # -- a request ---------------------------------------------------------------------------------------------------

    def over(self, metered: Metered, status: int, account: Account | None) -> None:
        """Its event, before the caller has the end of its answer. About 2 us."""
        exchange = metered.exchange
        exchange.metered = True
        slot, journal = metered.slot, self._log
        usage, texts, ahead_s = exchange.usage or NO_USAGE, journal.texts, self.ahead_s
        request_id = exchange.request_id.encode()
        try:
            content = pack_usual(
                USUAL,
                (STREAM if exchange.stream else 0) | (ESTIMATED if metered.estimated else 0),
                status,
                len(request_id),
                exchange.started_s + ahead_s,
                self._now() + ahead_s,
                metered.from_unix_s or metered.from_s + ahead_s,
                exchange.queue_s,
                exchange.wake_s,
                usage.prompt,
                usage.cached,
                usage.completion,
                texts.known[exchange.code or ""],
                texts.known[exchange.replica or ""],
                texts.heads[account, exchange.model, exchange.endpoint],
            )
            usual = metered.from_s and not metered.runs and journal.put(content + request_id)
        except (KeyError, struct.error):
            usual = False
        if not usual and exchange.key_id:
            self._write(metered, status, account)
        if slot is not None:
            metered.slot = None
            self._table.put_back(slot)

    def left(self, metered: Metered) -> None:
        """It is on its replica no more, and not over: to be told before it is sent to another one, and noted."""
        if metered.from_s:
            metered.runs = (*metered.runs, self._stay(metered, self.us(self._now())))
            metered.from_s = metered.from_unix_s = 0.0

    def note(self, metered: Metered, account: Account | None) -> bool:
        """It is under way, as things stand with it now. Called again when it changes its replica. About 5 us.

        False: there is no room for that.
        """
        if metered.from_s and not metered.from_unix_s:
            metered.from_unix_s = metered.from_s + self.ahead_s
        record = self._record(metered, account)
        if metered.slot is not None:
            metered.slot.put(record)
            return True
        metered.slot = self._table.take(record)
        return metered.slot is not None

    def refused(self, exchange: Exchange, status: int) -> None:
        """As ``over``, for a request that did not come so far as to be on its way."""
        if exchange.key_id and not exchange.metered:
            metered = Metered()
            metered.exchange = exchange
            exchange.metered = True
            self._write(metered, status, None)

    def us(self, at_s: float) -> int:
        """Unix time, as events have it, of a moment of the monotonic clock."""
        return microseconds(at_s + self.ahead_s)

    def refusal(self) -> Unavailable:
        """Instead of another request while ``full``."""
        message = "The disk that usage is written to is full; nothing is served that cannot be metered. Try later."
        return Unavailable(message, retry_after_s=RETRY_AFTER_S)

    def _stay(self, metered: Metered, until_us: int) -> Stay:
        """With the time of a beginning that is not noted as it was at the last tick: that found it young enough."""
        from_us = microseconds(metered.from_unix_s or metered.from_s + self.ahead_s)
        return (metered.exchange.replica or "", from_us, max(0, until_us - from_us))

    def _write(self, metered: Metered, status: int, account: Account | None) -> None:
        """Any event: one of the first of its kind in a segment, one with several runs or with none."""
        exchange, journal = metered.exchange, self._log
        ended_us = self.us(self._now())
        runs = (*metered.runs, self._stay(metered, ended_us)) if metered.from_s else metered.runs
        if self.full and not runs:
            return  # it was refused because nothing can be written, and used nothing
        usage = exchange.usage or NO_USAGE
        event = UsageEvent(
            id=exchange.request_id,
            started_us=self.us(exchange.started_s),
            ended_us=ended_us,
            key_id=exchange.key_id,
            project=exchange.project,
            tenant=exchange.tenant,
            model=exchange.model,
            endpoint=exchange.endpoint,
            status=status,
            code=exchange.code or "",
            stream=exchange.stream,
            prompt_tokens=_bounded(usage.prompt),
            cached_tokens=_bounded(usage.cached),
            completion_tokens=_bounded(usage.completion),
            estimated=metered.estimated,
            queue_us=microseconds(exchange.queue_s),
            wake_us=microseconds(exchange.wake_s),
            runs=tuple(Run(replica=replica, from_us=from_us, us=us) for replica, from_us, us in runs),
            price_list="" if account is None else account.price_list,
        )
        journal.write(event)
        self.full = journal.is_full
        if account is not None and not journal.waiting:
            texts = journal.texts
            texts.heads[account, exchange.model, exchange.endpoint] = texts.head(event)

    def _record(self, metered: Metered, account: Account | None) -> OpenRecord:
        exchange = metered.exchange
        return OpenRecord(
            exchange.request_id,
            exchange.key_id,
            exchange.project,
            exchange.tenant,
            exchange.model,
            exchange.endpoint,
            "" if account is None else account.price_list,
            self.us(exchange.started_s),
            microseconds(exchange.queue_s),
            microseconds(exchange.wake_s),
            exchange.replica or "" if metered.from_s else "",
            microseconds(metered.from_unix_s),
            metered.runs,
            exchange.status,
            exchange.stream,
        )

    # -- as time passes ----------------------------------------------------------------------------------------------

    def tick(self, flying: Iterable[Metered]) -> None:
        """To be called every 0.1 s with all that are on a replica and not noted otherwise."""
        clock = self._clock
        now_s = clock.monotonic()
        before_s, self.ahead_s = self.ahead_s, clock.steady() - now_s
        until_us = self.us(now_s) - GRACE_US
        for flight in flying:
            if flight.slot is not None or not flight.from_s or self.us(flight.from_s) >= until_us:
                continue
            # As it was at the last tick, which took it for young enough: time may have gone more slowly since.
            flight.from_unix_s = flight.from_unix_s or flight.from_s + before_s
            if not self.note(flight, flight.account):
                until_us = min(until_us, microseconds(flight.from_unix_s))
        self._log.tick()
        self.full = self._log.is_full
        self._words[END_WORD] = self._log.end
        if not self._log.waiting and until_us > self._words[UNTIL_WORD]:
            self._words[UNTIL_WORD] = until_us

    @property
    def written(self) -> int:
        """How far its log is: an offset (``gateway.metering.reader``)."""
        return self._log.end

    @property
    def waiting(self) -> int:
        """Events that are in memory only, because the disk is full."""
        return len(self._log.waiting)

    @property
    def lost(self) -> int:
        """Events that were not kept at all: the disk is full, and so is the memory for them."""
        return self._log.lost

    def close(self) -> None:
        """Nothing more comes. What is under way becomes events, as after a death."""
        self.tick(())
        self._log.close()
        os.close(self._lock)


def _bounded(count: int) -> int:
    """As it fits into an event: an engine may say anything."""
    return max(0, min(MOST_TOKENS, count))

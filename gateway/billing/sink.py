"""A copy of what was settled in a PostgreSQL of the operator's, for longer than Redis keeps it. It delays nothing.

The stream of settled events is read from where the database says that the copy ends; rows and that position are written
in one transaction, and a row that is there already stays, so a copy that is begun anew adds nothing twice.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.billing.books import SETTLED_MAX
from gateway.billing.sink_line import URL_ENV, Line
from models.store.base import Struct
from models.store.codec import decode, save_async
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.usage import SettledEvent

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

EVENTS_AT_ONCE = 1000
ANSWER_TIMEOUT_S = 15.0
HANGS_UP_S = 1.0
LOOK_S = 1.0
LONGEST_PAUSE_S = 30.0
STATUS_TTL_S = 120.0
KEPT_WHILE_DOWN = 1_000_000  # settled events, about 700 bytes each
_BEGINNING = "0-0"
_MIGRATING = 7_310_021  # of advisory locks in that database

log = structlog.get_logger(__name__)


class SinkRefused(Exception):
    """The database cannot be used as it is; the message names the cure."""


class SinkStatus(Struct, frozen=True):
    """``behind_s``: how much older the last event is that PostgreSQL has than the last that was settled; None while it
    was never reached. ``problem``: why; "" while all is well. ``gaps``: how often, since the meter began, events were
    dropped from Redis before they could be copied (the table ``sink_gaps`` says which)."""

    at_unix_s: float
    position: str
    behind_s: float | None
    problem: str = ""
    gaps: int = 0


@dataclass(slots=True)
class Sink:
    """``position``: the id of the last event that the database has; None: it is to be asked. ``copied``: as it was
    known last."""

    redis: Redis
    keys: Keys
    line: Line
    clock: Callable[[], float]
    rng: random.Random = field(default_factory=random.Random)
    position: str | None = None
    copied: str = ""
    gaps: int = 0
    problem: str = ""

    def kept(self) -> int:
        """How many settled events Redis should keep: many while they cannot be copied."""
        return KEPT_WHILE_DOWN if self.problem else SETTLED_MAX

    async def run(self) -> None:
        """Until it is cancelled. Whatever fails is said once and tried again, ever less often."""
        failures, self.position = 0, None  # another may have copied meanwhile
        try:
            while True:
                problem, said = await self._try(), self.problem
                if problem and problem != said:
                    log.error("usage is not copied to PostgreSQL; it stays in Redis for a while", reason=problem)
                if said and not problem:
                    log.info("usage is copied to PostgreSQL again")
                failures, self.problem = (failures + 1 if problem else 0), problem
                pause_s = min(LONGEST_PAUSE_S, LOOK_S * 2 ** min(failures, 10)) if problem else LOOK_S
                await asyncio.sleep(pause_s * (1 + 0.2 * self.rng.random()))
        finally:
            await asyncio.shield(self.line.engine.dispose())

    async def _try(self) -> str:
        """Copy all that there is. Why it could not be; "" when it was."""
        from sqlalchemy.exc import SQLAlchemyError

        problem = ""
        try:
            while await self._copy_in_time() == EVENTS_AT_ONCE:
                pass
        except (SQLAlchemyError, OSError, TimeoutError, SinkRefused, RedisError) as failed:
            problem, self.position = words(failed), None
        try:
            await self._tell(problem)
        except RedisError as down:
            return problem or f"Redis does not answer: {down}"
        return problem

    async def _copy_in_time(self) -> int:
        """A silent database is hung up on. psycopg, when it is cancelled, would wait for that very one to answer."""
        copying = asyncio.ensure_future(self.copy())
        try:
            await asyncio.wait({copying}, timeout=ANSWER_TIMEOUT_S)
            if copying.done():
                return copying.result()
            raise TimeoutError
        finally:
            if not copying.done():
                self.line.hang_up()
                await asyncio.wait({copying}, timeout=HANGS_UP_S)
                copying.cancel()  # it is still connecting
                await asyncio.gather(copying, return_exceptions=True)

    async def copy(self) -> int:
        """Copy the next events, at most EVENTS_AT_ONCE. How many there were.

        Raises SinkRefused, SQLAlchemyError, OSError, RedisError.
        """
        if self.position is None:
            self.position = await self._open()
        after = self.position
        entries, missed = await self._read(after)
        if not entries and not missed:
            return 0
        last = entries[-1][0] if entries else _BEGINNING
        async with self.line.engine.begin() as database:
            if missed:
                await self._note_gap(database, after, entries[0][0] if entries else "-")
            await _write(database, _rows(entries))
            await self._move(database, last)
        self.position = last
        return len(entries)

    async def _open(self) -> str:
        """The tables made or brought up to date; the position that is written there."""
        from sqlalchemy import select

        from gateway.billing.sink_schema import positions

        async with self.line.engine.begin() as database:
            await _migrate(database)
            here = select(positions.c.position).where(positions.c.installation == self.keys.prefix)
            found = await database.scalar(here)
        return found or _BEGINNING

    async def _read(self, after: str) -> tuple[list[tuple[str, bytes]], bool]:
        """What comes after this one, and whether some of it is no longer there.

        As long as the stream still has ``after`` itself, nothing behind it is gone: the oldest go first.
        """
        found: Any = await self.redis.xrange(self.keys.usage_settled, min=after, count=EVENTS_AT_ONCE + 1)
        entries = [(entry_id.decode(), fields[b"e"]) for entry_id, fields in found]
        if after == _BEGINNING:
            return entries[:EVENTS_AT_ONCE], False
        if entries and entries[0][0] == after:
            return entries[1:], False
        if entries:
            return entries[:EVENTS_AT_ONCE], True
        # Also when this Redis is another one, or was emptied, and its events so far all have earlier ids.
        emptied: Any = await self.redis.exists(self.keys.usage_settled)
        return [], bool(emptied)

    async def _note_gap(self, database: AsyncConnection, after: str, before: str) -> None:
        from sqlalchemy.dialects.postgresql import insert

        from gateway.billing.sink_schema import gaps

        self.gaps += 1
        log.error("settled events went from Redis before PostgreSQL had them", after=after, before=before)
        gap = {"installation": self.keys.prefix, "after_position": after, "before_position": before}
        await database.execute(insert(gaps).on_conflict_do_nothing(), [gap])

    async def _move(self, database: AsyncConnection, position: str) -> None:
        from sqlalchemy.dialects.postgresql import insert

        from gateway.billing.sink_schema import positions

        moved = insert(positions).values(installation=self.keys.prefix, position=position)
        moved = moved.on_conflict_do_update(index_elements=["installation"], set_={"position": position})
        await database.execute(moved)

    async def _tell(self, problem: str) -> None:
        """For ``roundhouse status``."""
        self.copied = self.position or self.copied
        newest: Any = await self.redis.xrevrange(self.keys.usage_settled, count=1)
        behind_s = _ms(newest[0][0].decode()) - _ms(self.copied) if newest and self.copied else 0
        status = SinkStatus(
            at_unix_s=self.clock(),
            position=self.copied,
            behind_s=max(0, behind_s) / 1000 if self.copied else None,
            problem=problem,
            gaps=self.gaps,
        )
        await save_async(self.redis, self.keys.usage_sink, status, STATUS_TTL_S)


def sink_from(redis: Redis, keys: Keys, clock: Callable[[], float], env: Mapping[str, str] = os.environ) -> Sink | None:
    """As ROUNDHOUSE_POSTGRES_URL says; None where it is not set. Raises StoreSettingError (no password in it)."""
    given = env.get(URL_ENV, "").strip()
    return Sink(redis, keys, Line.to(given), clock) if given else None


async def _migrate(database: AsyncConnection) -> None:
    """One process at a time. Raises SinkRefused where a newer version has been here."""
    from sqlalchemy import text

    from gateway.billing.sink_schema import MIGRATIONS, SCHEMA

    await database.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
    # Not CREATE ... IF NOT EXISTS alone: who may not create schemas may still use one that was made for this.
    there = await database.scalar(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": SCHEMA})
    if not there:
        await database.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    await database.execute(text(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.schema_version (version integer PRIMARY KEY)"))
    done = await database.scalar(text(f"SELECT coalesce(max(version), 0) FROM {SCHEMA}.schema_version")) or 0
    if done > len(MIGRATIONS):
        raise SinkRefused(
            f"the tables are of version {done}, and this Roundhouse knows {len(MIGRATIONS)}: it is older than the one "
            "that was here before; upgrade it"
        )
    for version, statements in enumerate(MIGRATIONS[done:], start=done + 1):
        for statement in filter(str.strip, statements.split(";")):
            await database.execute(text(statement))
        await database.execute(text(f"INSERT INTO {SCHEMA}.schema_version VALUES ({version})"))


def _rows(entries: Sequence[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """What cannot be read is said and left out."""
    from gateway.billing.sink_schema import row

    rows = []
    for position, raw in entries:
        try:
            rows.append(row(decode(raw, SettledEvent, f"the settled event {position}")))
        except (StoreDataError, OverflowError) as broken:
            log.error("a settled event is not copied to PostgreSQL", reason=str(broken))
    return rows


async def _write(database: AsyncConnection, rows: list[dict[str, Any]]) -> None:
    """One that the database cannot take must not keep all others back: then they go one by one."""
    from sqlalchemy.dialects.postgresql import insert
    from sqlalchemy.exc import DataError

    from gateway.billing.sink_schema import events

    if not rows:
        return
    statement = insert(events).on_conflict_do_nothing(index_elements=["id", "started_us", "key_id"])
    try:
        async with database.begin_nested():
            await database.execute(statement, rows)
    except DataError:
        for row in rows:
            try:
                async with database.begin_nested():
                    await database.execute(statement, [row])
            except DataError as refused:
                log.error("PostgreSQL does not take a settled event", id=row["id"], reason=words(refused))


def _ms(position: str) -> int:
    """When it was written: Unix milliseconds of Redis."""
    return int(position.partition("-")[0])


def words(failed: BaseException) -> str:
    """In one line, without the statement."""
    if isinstance(failed, TimeoutError):
        return "PostgreSQL does not answer"
    cause = getattr(failed, "orig", None) or failed
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__

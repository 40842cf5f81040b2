"""Working off one batch, from whatever state its record and its journals say it is in.

Nothing is remembered but in those two: it can end at any moment and be begun again by any process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import structlog

from gateway.asking import Ask, Failure
from gateway.attempts import Attempts
from gateway.batches import journal, states
from gateway.batches.journal import Journal, Write
from gateway.batches.lines import Line, check, read
from gateway.batches.records import BatchRecord, LineError
from gateway.batches.results import EXPIRED, of_answer, of_failure
from gateway.batches.room import Room
from gateway.batches.store import INPUT, BatchStore
from gateway.clock import Clock
from gateway.ending import end
from gateway.files.cabinet import Cabinet
from gateway.files.records import OUTPUT_PURPOSE, FileRecord
from gateway.inquiry import Caller

READ_AT_ONCE = 64
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. ``look_s``: how often its record, the room and the time are looked at."""

    look_s: float = 0.5
    retry_s: float = 1.0
    longest_retry_s: float = 30.0
    at_once: int = 64  # lines of one batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a run works with. ``caller_of``: on whose behalf, by the key's id; None when the key works no more.

    ``token``: names this process's journals; no other process ever has the same.
    """

    store: BatchStore
    cabinet: Cabinet
    room: Room
    ask: Ask
    caller_of: Callable[[str], Awaitable[Caller | None]]
    clock: Clock
    token: str
    write: Write
    line_bytes: int
    pace: Pace = field(default_factory=Pace)


class BatchGone(Exception):
    """There is no record of it any more."""


class Run:
    def __init__(self, record: BatchRecord, tools: Tools) -> None:
        self._record, self._tools = record, tools
        self._folder = tools.store.folder(record.id)
        self._attempts = Attempts(tools.ask, tools.pace.retry_s, tools.pace.longest_retry_s, record.priority)
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked_s = float("-inf")

    async def work(self) -> BatchRecord:
        """Until it has ended, and as what. Raises StoreUnavailable, OSError: begin again later. Raises BatchGone."""
        if self._record.status == "validating":
            await self._validate()
        if self._record.status in ("in_progress", "finalizing", "cancelling"):
            own = await asyncio.to_thread(Journal, self._folder, self._tools.token, self._tools.write)
            try:
                if self._record.status == "in_progress":
                    await self._lines(own)
                if self._record.status in ("finalizing", "cancelling"):
                    await self._finalize(own)
            finally:
                await end(self._tasks)
                own.close()
        await self._tools.store.close(self._record.owner, self._record.id)
        await asyncio.to_thread(journal.remove, self._folder)
        return self._record

    async def _change(self, change: Callable[[BatchRecord], BatchRecord | None]) -> None:
        """The record as it is after that, whoever changed it. Raises BatchGone."""
        record = self._record
        changed = await self._tools.store.change(record.owner, record.id, change)
        changed = changed or await self._tools.store.find(record.owner, record.id)
        if changed is None:
            raise BatchGone(record.id)
        self._record = changed

    async def _validate(self) -> None:
        args = (self._folder / INPUT, self._record.endpoint, self._tools.line_bytes)
        try:
            found = await asyncio.to_thread(check, *args)
        except FileNotFoundError:
            message = "The input file is not on this machine any more."
            await self._change(lambda record: states.failed(record, "input_missing", message, self._now_s))
            return
        await self._change(lambda record: states.checked(record, found, self._now_s))

    async def _lines(self, own: Journal) -> None:
        """Until all are done, the time is over, it is cancelled, or its key is gone."""
        with closing(self._pending(own)) as lines:
            await self._work_off(lines, own)

    async def _work_off(self, lines: Iterator[Line], own: Journal) -> None:
        ready: list[Line] = []
        more = True
        while self._record.status == "in_progress":
            caller = await self._look(own)
            if caller is None:
                continue
            if more and not ready:
                ready = await asyncio.to_thread(lambda: list(islice(lines, READ_AT_ONCE)))
                more = bool(ready)
            while ready and len(self._tasks) < self._tools.pace.at_once:
                place = self._tools.room.take(ready[0].model)
                if place is None:
                    break
                task = asyncio.create_task(self._line(ready.pop(0), caller, own))
                task.add_done_callback(partial(self._over, place))
                self._tasks.add(task)
                await asyncio.sleep(0)  # other batches want room as well
            if not ready and not more and not self._tasks:
                await self._change(lambda record: states.finalizing(record, self._now_s, expired=False))
            else:
                await self._wait()

    async def _look(self, own: Journal) -> Caller | None:
        """Who asks now; None when it is not to go on in this state."""
        record, now_s = self._record, self._now_s
        if now_s >= record.expires_at:
            await self._change(lambda record: states.finalizing(record, now_s, expired=True))
            return None
        caller = await self._tools.caller_of(record.owner)
        if caller is None:
            message = "The API key of this batch was revoked."
            await self._change(lambda record: states.failed(record, "key_revoked", message, now_s))
            return None
        if abs(now_s - self._looked_s) >= self._tools.pace.look_s:
            self._looked_s = now_s
            done = own.finished
            await self._change(lambda record: states.counted(record, len(done.completed), len(done.failed)))
        return caller if self._record.status == "in_progress" else None

    async def _wait(self) -> None:
        if not self._tasks:
            await asyncio.sleep(self._tools.pace.look_s)
            return
        done, self._tasks = await asyncio.wait(
            self._tasks, timeout=self._tools.pace.look_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()  # the disk failed: begin again later

    def _over(self, place: str, _: asyncio.Task[None]) -> None:
        self._tools.room.give_back(place)

    async def _line(self, line: Line, caller: Caller, own: Journal) -> None:
        answer = await self._attempts.ask(self._record.endpoint, line.body, caller)
        if isinstance(answer, Failure):
            own.append(of_failure(self._record.id, line.number, line.custom_id, answer))
        else:
            own.append(of_answer(self._record.id, line, answer))

    def _pending(self, own: Journal) -> Generator[Line, None, None]:
        for line in read(self._folder / INPUT, self._record.endpoint, self._tools.line_bytes):
            if isinstance(line, LineError):
                log.error("a line of a batch changed after it was checked", batch=self._record.id, line=line.line)
            elif line.number not in own.finished:
                yield line

    async def _finalize(self, own: Journal) -> None:
        await end(self._tasks)
        self._tasks.clear()
        if self._record.expired_at is not None and self._record.cancelling_at is None:
            await asyncio.to_thread(self._expire, own)
        done = own.finished
        await self._file(own, self._record.output_file, "output", done.completed)
        await self._file(own, self._record.error_file, "error", done.failed)
        await self._change(lambda record: states.ended(record, len(done.completed), len(done.failed), self._now_s))

    def _expire(self, own: Journal) -> None:
        for line in self._pending(own):
            own.append(of_failure(self._record.id, line.number, line.custom_id, EXPIRED))

    async def _file(self, own: Journal, file_id: str, kind: str, numbers: set[int]) -> None:
        if not numbers:
            return
        cabinet, record = self._tools.cabinet, self._record
        async with cabinet.disk.incoming() as incoming:
            for text in journal.results(own.finished, numbers):
                await incoming.write(text)
            written = await incoming.finish()
            created_at = int(self._now_s)
            file = FileRecord(
                id=file_id,
                bytes=written.size_bytes,
                created_at=created_at,
                filename=f"{record.id}_{kind}.jsonl",
                purpose=OUTPUT_PURPOSE,
                sha256=written.sha256,
                expires_at=created_at + record.output_lasts_s,
            )
            await cabinet.add(record.owner, written, file, force=True)

    @property
    def _now_s(self) -> float:
        return self._tools.clock.unix()

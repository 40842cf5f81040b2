"""A batch on a workbench: real Redis, real files, an engine that is a function, and a process that can be ended."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis.asyncio

from gateway.batches.records import BatchRecord, new_batch_id
from gateway.batches.room import Room
from gateway.batches.run import Pace, Run, Tools
from gateway.batches.store import BatchStore
from gateway.clock import Clock
from gateway.files.cabinet import Cabinet, FileLimits
from gateway.files.disk import Disk, Written
from gateway.files.records import FileRecord, new_file_id
from gateway.inquiry import Caller
from models.store.client import connect_async
from models.store.keys import Keys
from models.store.records import ModelDemand

OWNER = "ann"
PATH = "/v1/chat/completions"
PACE = Pace(look_s=0.002, retry_s=0.001, longest_retry_s=0.002, at_once=4)


class Killed(BaseException):
    """The end of a process: nothing that it would have done after that has an effect."""


@dataclass
class Fuse:
    """Burns with everything that leaves a trace outside of the process; at its end the process is dead.

    ``torn``: how much of a write in which it ends is still written, as a share.
    """

    left: float = float("inf")
    torn: float = 0.0
    dead: bool = False

    def burn(self) -> None:
        if self.dead or self.left <= 0:
            self.dead = True
            raise Killed
        self.left -= 1

    def write(self, fd: int, data: bytes, whole: Callable[[], None]) -> int:
        """``whole`` is called when all of it is on the disk."""
        try:
            self.burn()
        except Killed:
            if os.write(fd, data[: int(len(data) * self.torn)]) == len(data):
                whole()
            self.torn = 0.0
            raise
        whole()
        return os.write(fd, data)


@dataclass
class Spoken:
    status: int
    body: bytes
    head: bytes = b"content-type: application/json\r\n"
    request_id: str = "req_1"


class DyingStore(BatchStore):
    fuse: Fuse

    async def change(
        self, owner: str, batch_id: str, change: Callable[[BatchRecord], BatchRecord | None]
    ) -> BatchRecord | None:
        self.fuse.burn()
        changed = await super().change(owner, batch_id, change)
        self.fuse.burn()
        return changed

    async def close(self, owner: str, batch_id: str) -> None:
        self.fuse.burn()
        await super().close(owner, batch_id)


class DyingCabinet(Cabinet):
    fuse: Fuse

    async def add(self, owner: str, written: Written, record: FileRecord, *, force: bool = False) -> None:
        self.fuse.burn()
        await super().add(owner, written, record, force=force)
        self.fuse.burn()


@dataclass(frozen=True, slots=True)
class DyingDisk(Disk):
    fuse: Fuse

    def place(self, written: Written, owner: str, file_id: str) -> Path:
        self.fuse.burn()
        path = Disk.place(self, written, owner, file_id)
        self.fuse.burn()
        return path


@dataclass
class Bench:
    url: str
    keys: Keys
    root: Path
    refused: frozenset[int] = frozenset()  # lines that the engine refuses
    now_s: float = 2_000_000_000.0
    asked: Counter[int] = field(default_factory=Counter)
    finished: set[int] = field(default_factory=set)  # as the disk has it
    asked_again: set[int] = field(default_factory=set)  # although it was finished
    lives: int = 0
    record: BatchRecord | None = None

    async def order(self, lines: int) -> None:
        client = connect_async(self.url)
        store = BatchStore(client, self.keys, self.root / "batches", self._clock)
        batch_id = new_batch_id()
        source = self.root / "in.jsonl"
        self.root.mkdir(parents=True, exist_ok=True)
        source.write_text("\n".join(json.dumps(self.line(number)) for number in range(1, lines + 1)))
        store.lay_out(batch_id, source)
        self.record = BatchRecord(
            id=batch_id, owner=OWNER, name="ann's", endpoint=PATH, input_file_id="file-1", completion_window="24h",
            status="validating", created_at=int(self.now_s), expires_at=int(self.now_s) + 1000,
            output_file=new_file_id(), error_file=new_file_id(), output_lasts_s=3600,
        )  # fmt: skip
        await store.add(self.record)
        await client.aclose()

    def line(self, number: int) -> Any:
        return {"custom_id": f"r-{number}", "method": "POST", "url": PATH, "body": {"model": "m", "n": number}}

    async def live(self, fuse: Fuse) -> BatchRecord | None:
        """One process's life. What the batch ended as; None when the process ended first."""
        assert self.record is not None
        self.lives += 1
        client = connect_async(self.url)
        tools = self.tools(client, fuse)
        try:
            record = await tools.store.find(OWNER, self.record.id)
            assert record is not None
            return await Run(record, tools).work()
        except Killed:
            return None
        finally:
            fuse.dead = True
            for task in asyncio.all_tasks() - {asyncio.current_task()}:  # nothing survives its process
                task.cancel()
                await asyncio.wait([task])
                _ = task.cancelled() or task.exception()
            await client.aclose()

    def tools(self, client: redis.asyncio.Redis, fuse: Fuse) -> Tools:
        store = DyingStore(client, self.keys, self.root / "batches", self._clock)
        disk = DyingDisk(self.root / "files", fuse)
        cabinet = DyingCabinet(client, self.keys, disk, self._clock, FileLimits())
        store.fuse = cabinet.fuse = fuse

        async def ask(path: str, body: bytes, caller: Caller, *, priority: int) -> Spoken:
            number = json.loads(body)["n"]
            fuse.burn()
            self.asked[number] += 1
            if number in self.finished:
                self.asked_again.add(number)
            await asyncio.sleep(0)
            fuse.burn()
            status = 400 if number in self.refused else 200
            return Spoken(status, json.dumps({"n": number, "life": self.lives}).encode())

        def write(fd: int, data: bytes) -> int:
            return fuse.write(fd, data, lambda: self.finished.add(json.loads(data)["n"]))

        async def caller_of(owner: str) -> Caller | None:
            return Caller(owner)

        async def look_up() -> dict[str, ModelDemand]:
            return {}

        return Tools(
            store=store, cabinet=cabinet, room=Room(lambda name: None, look_up, lambda: 0.0), ask=ask,
            caller_of=caller_of, clock=self._clock, token=f"life-{self.lives}", write=write, line_bytes=10_000,
            pace=PACE,
        )  # fmt: skip

    def files(self) -> tuple[list[Any], list[Any]]:
        """The lines of the output and of the error file."""
        assert self.record is not None
        found = []
        for file_id in (self.record.output_file, self.record.error_file):
            path = self.root / "files" / OWNER / file_id
            found.append([json.loads(line) for line in path.read_text().splitlines()] if path.exists() else [])
        return found[0], found[1]

    @property
    def _clock(self) -> Clock:
        return Clock(unix=lambda: self.now_s)

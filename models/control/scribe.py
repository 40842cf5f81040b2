"""Writes what no request waits for: recordings, what is known of the past, answers to the curious. Beside the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from redis.exceptions import RedisError

from models.control.demand import Traffic
from models.control.history import Remembered
from models.control.recorder import Recorder
from models.control.recording import Line, Step
from models.control.store import ControlStore
from models.control.world import World
from models.store.records import Command, CommandReply, ControlMeters
from packers.types import ModelId

log = logging.getLogger("roundhouse.control")
REMEMBER_EVERY_S = 30.0
METER_EVERY_S = 2.0
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Scribe:
    """``spawn``: runs something beside the loop. A recording is written by one task at a time."""

    def __init__(self, store: ControlStore, recorder: Recorder, spawn: Spawn, now: float) -> None:
        self._store = store
        self._recorder = recorder
        self._spawn = spawn
        self._last: Step | None = None
        self._curious: list[Command] = []
        self._recording: asyncio.Task[None] | None = None
        self._remembered_s = now
        self._metered_s = now

    def decided(self, step: Step, traffic: dict[ModelId, Traffic]) -> None:
        self._last = step
        now = step.snapshot.now_s
        if self._recorder.on(now):
            self._recorder.traffic(traffic, now)
            self._recorder.step(step)

    def show(self, command: Command) -> None:
        """Somebody wants to see what was decided last."""
        self._curious.append(command)

    def write(self, world: World, now: float) -> None:
        """What has come together since the last call."""
        history = world.history
        curious, self._curious = self._curious, []
        if curious and self._last is not None:
            self._spawn(self._show(self._last, curious))
        if now - self._remembered_s >= REMEMBER_EVERY_S:
            self._remembered_s = now
            self._spawn(self._remember(history.remembered(now)))
        if now - self._metered_s >= METER_EVERY_S:
            self._metered_s = now
            self._spawn(self._meter(world.meters()))
        if self._recording is None or self._recording.done():
            lines = self._recorder.take()
            self._recording = self._spawn(self._record(lines)) if lines else None

    def rewrite(self) -> None:
        """The store has lost what was written: all of it is due."""
        self._remembered_s = self._metered_s = float("-inf")

    async def _show(self, step: Step, curious: list[Command]) -> None:
        await self._store.show(step)
        for command in curious:
            await self._store.reply(CommandReply(id=command.id, ok=True, message=f"snapshot {step.snapshot.id}"))

    async def _remember(self, past: Remembered) -> None:
        try:
            await self._store.remember(past)
        except RedisError as problem:
            log.warning("what is known of the past is not kept now: %s", problem)

    async def _meter(self, meters: ControlMeters) -> None:
        try:
            await self._store.meter(meters)
        except RedisError as problem:
            log.warning("what the controller counts is not shown now: %s", problem)

    async def _record(self, lines: tuple[Line, ...]) -> None:
        try:
            await self._store.record(lines)
        except RedisError as problem:
            self._recorder.lost(lines)
            log.warning("%d lines of the recording are lost: %s", len(lines), problem)

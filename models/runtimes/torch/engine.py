"""A loaded model class as an engine: its application, its sleep, what it holds, and what can go wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch

from models import nvml
from models.runtimes.proc import trim_heap
from models.runtimes.protocol import Asgi, EngineError, EngineOrder, Measured
from models.runtimes.torch.batcher import Batcher
from models.runtimes.torch.contained import in_one_line
from models.runtimes.torch.device_weights import DeviceWeights
from models.runtimes.torch.memory_watch import MemoryWatch, outgrown, reserved_bytes
from models.runtimes.torch.model_thread import call_model
from models.runtimes.vllm.mapped_pages import own_pages

if TYPE_CHECKING:
    from models.cuda.sleep import InThread, SleepBackend
    from models.runtimes.torch.canary import Canary

DRAIN_S = 5.0  # for requests that wait when the engine is ended for its memory


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What ``TorchRuntime.load`` has put together. ``example``: computes the class's own example; None has none."""

    name: str  # of the class
    task: str
    app: Asgi
    batcher: Batcher
    thread: ThreadPoolExecutor
    timeout_s: float
    weights: DeviceWeights
    mapped_bytes: int  # of the weights, in mapped files
    canary: Canary
    example: Callable[[], Any] | None
    sleeper: Callable[[InThread], SleepBackend] | None = None  # on a GPU (models/cuda)
    release: Callable[[], None] | None = None  # what it holds of the GPU and of pinned host memory


class TorchEngine:
    """``timings_s``: phases of the load. ``living``: the engines of this process, which it joins until ``close``."""

    def __init__(
        self, order: EngineOrder, parts: Parts, timings_s: dict[str, float], living: WeakSet[TorchEngine]
    ) -> None:
        self.app: Asgi = parts.app
        self.timings_s = timings_s
        self._order = order
        self._parts = parts
        self._living = living
        self._shared = order.engine_args.get("process") == "shared"
        self._asleep = False
        self._pages = own_pages()
        self._held_bytes = 0  # of private memory when it was first measured, before it served anybody
        self._sleeper = parts.sleeper(partial(self._call, "sleep")) if parts.sleeper is not None else None
        self._weights_bytes = parts.weights.size_bytes()
        self._defect: asyncio.Future[EngineError] = asyncio.get_running_loop().create_future()
        living.add(self)

    async def sleep(self) -> None:
        """Raises EngineError when the host has no room for the weights; it serves on then."""
        try:
            if self._sleeper is not None:
                await self._sleeper.suspend()
            else:
                await self._call("sleep", self._parts.weights.to_host)
        except (RuntimeError, MemoryError) as problem:
            raise EngineError(f"the weights cannot leave the device: {in_one_line(problem)}", "memory") from problem
        await asyncio.to_thread(trim_heap)
        self._asleep = True

    async def wake(self) -> None:
        """Raises EngineError when the device has no room for the weights; when the canary fails, it ends as well."""
        try:
            if self._sleeper is not None:
                await self._sleeper.resume()
            else:
                await self._call("wake", self._parts.weights.to_device)
        except torch.OutOfMemoryError as problem:
            raise EngineError("the device has no room for the weights", "memory") from problem
        try:
            if self._parts.example is not None:
                self._parts.canary.verify(await self._call("example", self._parts.example))
        except EngineError as problem:
            if not self._defect.done():
                self._defect.set_result(problem)
            raise
        self._asleep = False

    def measured(self) -> Measured:
        """In a shared process, what belongs to no single engine is split evenly, so that all of them add up to it."""
        pages = self._pages.read()
        self._held_bytes = self._held_bytes or pages.private_bytes
        engines = list(self._living) or [self]
        own_bytes = _own_bytes(self)
        mapped_bytes = sum(engine._parts.mapped_bytes for engine in engines)
        private_share = max(0, pages.private_bytes - sum(map(_own_bytes, engines))) // len(engines)
        weights_bytes = 0 if self._asleep else self._weights_bytes
        device_bytes = None
        overhead_bytes = private_share
        if self._parts.weights.moves:
            held_bytes = nvml.process_bytes(os.getpid(), self._order.device.uuid)
            awake_bytes = sum(engine._weights_bytes for engine in engines if not engine._asleep)
            on_device = torch.cuda.memory_reserved() if held_bytes is None else held_bytes
            overhead_bytes = max(0, on_device - awake_bytes) // len(engines)
            device_bytes = None if held_bytes is None else weights_bytes + overhead_bytes
        return Measured(
            weights_bytes=weights_bytes,
            kv_cache_bytes=0,
            rss_bytes=private_share + own_bytes,
            shared_bytes=pages.weights_bytes * self._parts.mapped_bytes // (mapped_bytes or 1),
            overhead_bytes=overhead_bytes,
            device_bytes=device_bytes,
        )

    def describe(self) -> dict[str, str]:
        parts = self._parts
        kind = "pinned" if parts.weights.has_copy else "mapped" if parts.mapped_bytes else "copied"
        sleep = {} if self._sleeper is None else {"sleep": self._sleeper.name}
        return {
            "path": "fast",
            "weights": kind,
            **sleep,
            "process": "shared" if self._shared else "own",
            "task": parts.task,
            "class": parts.name,
        }

    async def watch(self) -> str:
        """Raises EngineError when a call hangs, the canary fails or its memory outgrows its budget."""
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._parts.batcher.broken()),
            self._defect,
            asyncio.ensure_future(self._outgrown()),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            raise next(done.result() for done in waiting if done.done())
        finally:
            for task in waiting:
                task.cancel()

    async def close(self) -> None:
        """Its thread ends when it can; nobody waits for it. Where the process goes on, its GPU memory is given back."""
        self._living.discard(self)
        if self._sleeper is not None:
            await self._sleeper.close()
        if self._shared and self._parts.release is not None:
            await self._call("close", self._parts.release)
        self._parts.thread.shutdown(wait=False, cancel_futures=True)

    async def _outgrown(self) -> EngineError:
        """Whoever waits then still gets an answer, for DRAIN_S at most. In a shared process its host watches."""
        if self._shared:
            await asyncio.Event().wait()
        watch = MemoryWatch(reserved_bytes(self._order.budget), self._held_bytes)
        problem = EngineError(await outgrown(watch), "memory")
        self._parts.batcher.refuse("the model is ended and started again", "engine_recycled")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._parts.batcher.drained(), DRAIN_S)
        return problem

    async def _call(self, what: str, function: Callable[[], Any]) -> Any:
        parts = self._parts
        return await call_model(parts.thread, f"{parts.name}.{what}", parts.timeout_s, function)


def _own_bytes(engine: TorchEngine) -> int:
    """Of host memory, for weights that are not mapped; on a GPU, where they are pinned, that is all of them."""
    parts = engine._parts
    if parts.weights.moves:
        return engine._weights_bytes if parts.weights.has_copy else 0
    return engine._weights_bytes - parts.mapped_bytes

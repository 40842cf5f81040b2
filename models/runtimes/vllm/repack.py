"""Private copies of an engine's matrices, made in the background while it serves with the shared ones.

oneDNN's copies are faster for many tokens at once, by up to a fifth over packed shared matrices and twice over plain
ones. They cost as much private memory as the matrices have, and a second or two of one core a gigabyte.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import torch
from torch import nn

from models.runtimes.cores.openmp import step_aside
from models.runtimes.vllm import linear as vllm_linear
from models.runtimes.vllm.footprint import available_bytes
from models.runtimes.vllm.linear import CompiledLinear, SharedLinear, TwofoldLinear, plain_linear
from models.runtimes.vllm.weights import LoadedWeights

BEGIN_AFTER_S = 1.0  # the first answer is usually given by then
LEAST_LEFT_BYTES = 1 << 30  # of host memory, when all is packed

State = Literal["idle", "packing", "packed"]
Run = Callable[[Callable[[Any], Any]], Awaitable[Any]]  # something in the engine's thread, between its steps

log = logging.getLogger("roundhouse.engine")


class Repacker:
    """Of one engine. ``busy`` tells whether it computes just now; ``whole``: see ``CompiledLinear``."""

    def __init__(
        self,
        weights: LoadedWeights,
        run: Run,
        busy: Callable[[], bool],
        whole: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.state: State = "idle"
        self.private_bytes = 0
        self.took_s = 0.0
        self._weights = weights
        self._run = run
        self._busy = busy
        self._whole = whole
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()

    def start(self, delay_s: float = BEGIN_AFTER_S) -> None:
        """From an event loop; nothing happens where there is nothing to gain."""
        if self._task is None and self._weights.layers:
            self._stop = threading.Event()
            self._task = asyncio.get_running_loop().create_task(self._pack(delay_s, self._stop))

    async def drop(self) -> None:
        """Multiply with the shared matrices again, and give the private ones back."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._run(lambda _core: self._restore())
        self.state = "idle"

    async def _pack(self, delay_s: float, stop: threading.Event) -> None:
        await asyncio.sleep(delay_s)
        needed = sum(_matrix_bytes(layer, self._weights.shared.get(name)) for name, layer in self._layers())
        if available_bytes() - needed < LEAST_LEFT_BYTES:
            log.warning("the machine is short of memory: the engine goes on with shared weights")
            return
        self.state = "packing"
        began_s = time.monotonic()
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        arguments = (stop, loop, done)
        threading.Thread(target=self._work, args=arguments, name="repack", daemon=True).start()
        try:
            await done
        except Exception:  # nothing is lost but speed
            log.exception("the weights cannot be packed: the engine goes on with shared ones")
            self.state = "idle"
            return
        self.took_s = time.monotonic() - began_s
        self.state = "packed"
        log.info("weights packed in %.2f s (%d MiB)", self.took_s, self.private_bytes >> 20)

    def _layers(self) -> list[tuple[str, nn.Module]]:
        return list(self._weights.layers.items())

    # In a thread of its own

    def _work(self, stop: threading.Event, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        problem: BaseException | None = None
        try:
            step_aside()
            for name, layer in self._layers():
                if stop.is_set():
                    return
                began_s = time.monotonic()
                self._pack_one(name, layer, stop, loop)
                if self._busy():
                    stop.wait(time.monotonic() - began_s)  # at most half of what the core has
        except Exception as raised:  # noqa: BLE001 - the task's to raise
            problem = raised
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(_settle, done, problem)

    def _pack_one(self, name: str, layer: nn.Module, stop: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        shared = self._weights.shared.get(name)
        matrix: torch.Tensor = layer.weight if shared is None else vllm_linear.unpack(shared.packed)  # type: ignore[assignment]
        bias: Any = getattr(layer, "bias", None)
        private = vllm_linear.private_linear(matrix, bias, vllm_linear.own_dispatch())
        if private is None:
            return
        private = CompiledLinear(private, matrix.shape[1], self._whole)
        linear = private if shared is None else TwofoldLinear(shared, private, matrix.shape[1])
        size_bytes = matrix.nbytes

        def swap(_core: Any) -> None:
            if not stop.is_set():
                layer.cpu_linear = linear  # type: ignore[assignment]
                self.private_bytes += size_bytes

        asyncio.run_coroutine_threadsafe(_awaited(self._run(swap)), loop).result()

    # In the engine's thread

    def _restore(self) -> None:
        for name, layer in self._layers():
            layer.cpu_linear = self._weights.shared.get(name) or plain_linear  # type: ignore[assignment]
        self.private_bytes = 0


async def _awaited(answer: Awaitable[Any]) -> None:
    await answer


def _settle(done: asyncio.Future[None], problem: BaseException | None) -> None:
    if done.cancelled():
        return
    if problem is not None:
        done.set_exception(problem)
    else:
        done.set_result(None)


def _matrix_bytes(layer: nn.Module, shared: SharedLinear | None) -> int:
    weight: Any = layer.weight
    return int(weight.nbytes if shared is None else shared.packed.nbytes)

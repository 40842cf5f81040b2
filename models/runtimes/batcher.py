"""Puts concurrent requests into one batch: whatever came while the model was busy goes in next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

MOST_INPUTS = 64


@dataclass
class _Waiting:
    inputs: Sequence[Any]
    outputs: asyncio.Future[list[Any]]


class Batcher:
    """Calls ``predict`` with up to ``most_inputs`` inputs at a time (more only if one request has more), in ``thread``.

    An idle model begins at once; nothing ever waits for company.
    """

    def __init__(
        self, predict: Callable[[list[Any]], list[Any]], thread: ThreadPoolExecutor, most_inputs: int = MOST_INPUTS
    ) -> None:
        self._predict = predict
        self._thread = thread
        self._most_inputs = most_inputs
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def outputs(self, inputs: Sequence[Any]) -> list[Any]:
        """One output for each input. Raises what ``predict`` raises."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(inputs, loop.create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return await waiting.outputs

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            inputs = [item for waiting in batch for item in waiting.inputs]
            try:
                outputs = await loop.run_in_executor(self._thread, self._predict, inputs)
                if len(outputs) != len(inputs):
                    raise ValueError(f"the model gave {len(outputs)} outputs for {len(inputs)} inputs")
            except Exception as problem:  # noqa: BLE001 - it belongs to those who asked
                _settle(batch, None, problem)
            else:
                _settle(batch, outputs, None)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        count = 0
        while self._waiting and (not batch or count + len(self._waiting[0].inputs) <= self._most_inputs):
            waiting = self._waiting.pop(0)
            if not waiting.outputs.cancelled():  # its client is gone
                batch.append(waiting)
                count += len(waiting.inputs)
        return batch


def _settle(batch: list[_Waiting], outputs: list[Any] | None, problem: Exception | None) -> None:
    begin = 0
    for waiting in batch:
        end = begin + len(waiting.inputs)
        if not waiting.outputs.done():
            if outputs is None:
                waiting.outputs.set_exception(problem or RuntimeError("no outputs"))
            else:
                waiting.outputs.set_result(outputs[begin:end])
        begin = end

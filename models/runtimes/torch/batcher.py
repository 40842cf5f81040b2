"""Puts concurrent requests into batches, and streams between them, on the one thread that a model computes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from models.runtimes.protocol import EngineError
from models.runtimes.torch.api import ApiError
from models.runtimes.torch.batch_queue import BatchQueue, Item, Limits, Request
from models.runtimes.torch.batch_streams import Stream, Turns
from models.runtimes.torch.contained import ModelDefect, close_quietly, contained, in_one_line, pieces_of
from models.runtimes.torch.model_thread import Hang, call_model

RATE_WEIGHT = 0.2  # of the latest batch in the moving average of seconds per input
SHORTEST_RETRY_S = 1.0

log = logging.getLogger("roundhouse.engine")

Result = TypeVar("Result")


class _Pending(Request):
    """A request with those who wait for it."""

    __slots__ = ("_missing", "_outputs", "answer")

    def __init__(self, inputs: Sequence[Any], arrived_s: float, answer: asyncio.Future[list[Any]]) -> None:
        super().__init__(inputs, arrived_s)
        self.answer = answer
        self._outputs: list[Any] = [None] * len(inputs)
        self._missing = len(inputs)

    def settle(self, index: int, output: Any) -> None:
        self._outputs[index] = output
        self._missing -= 1
        if not self._missing and not self.answer.done():
            self.answer.set_result(self._outputs)

    def fail(self, problem: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(problem)


class Batcher:
    """Computes requests in batches (``BatchQueue``) and, between two batches, one piece of each stream.

    ``name``: the model's class, for sentences. ``thread`` must run one call at a time. A call that takes longer than
    ``predict_timeout_s`` breaks the batcher for good: see ``broken``.
    """

    def __init__(
        self,
        predict: Callable[[list[Any]], list[Any]],
        thread: Executor,
        limits: Limits | None = None,
        *,
        name: str = "the model",
        batch_key: Callable[[Any], Hashable] | None = None,
        stream: Callable[[Any], Iterator[Any]] | None = None,
        on_cancel: Callable[[Any], None] | None = None,
    ) -> None:
        self._predict = predict
        self._thread = thread
        self._limits = limits or Limits()
        self._name = name
        self._batch_key = batch_key
        self._stream = stream
        self._on_cancel = on_cancel
        self._queue = BatchQueue(self._limits)
        self._turns = Turns(self._limits.batch_size)
        self._pending: set[_Pending] = set()
        self._worker: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._refusal: tuple[str, str] | None = None  # why nothing more is taken, and that as a code
        self._item_s = 0.0  # moving average
        self._broke = asyncio.Event()
        self._defect = EngineError("")

    @property
    def streams(self) -> bool:
        """Whether the model's class can stream."""
        return self._stream is not None

    async def outputs(self, inputs: Sequence[Any], deadline_s: float | None = None) -> list[Any]:
        """One output for each input. ``deadline_s``: seconds from now, after which nothing of it is computed.

        Raises ApiError when there is no room, no time or no model left, and what the model raises on these inputs.
        """
        if not inputs:
            return []
        self._check_room(len(inputs))
        loop = asyncio.get_running_loop()
        keys = [contained(self._batch_key, item) if self._batch_key else None for item in inputs]
        request = _Pending(inputs, loop.time(), loop.create_future())
        self._queue.add(request, keys)
        self._pending.add(request)
        self._wake()
        try:
            async with asyncio.timeout(self._patience_s(deadline_s)):
                return await request.answer
        except TimeoutError as problem:
            if request.answer.done() and not request.answer.cancelled():
                raise  # it is the model's own
            raise _too_late() from problem
        finally:
            self._pending.discard(request)
            self._queue.withdraw(request)

    async def pieces(self, item: Any, deadline_s: float | None = None) -> AsyncGenerator[Any, None]:
        """The model's ``stream`` of one input; closing this closes the model's iterator. Raises what ``outputs`` does.

        ``deadline_s``: seconds from now to the last piece.
        """
        if self._stream is None:
            raise ApiError(400, f"{self._name} cannot stream", "stream")
        self._check_room(1)
        patience_s = self._patience_s(deadline_s)
        until_s = None if patience_s is None else asyncio.get_running_loop().time() + patience_s
        stream = Stream(item, self._wake)
        self._turns.add(stream)
        self._wake()
        try:
            more, piece = await _taken(stream, until_s)
            while more:
                yield piece
                more, piece = await _taken(stream, until_s)
        finally:
            stream.leave()

    def refuse(self, message: str, code: str) -> None:
        """Take nothing more; what waits is still computed."""
        self._refusal = (message, code)

    async def drained(self) -> None:
        """Wait until nothing waits and nothing is computed."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait((self._worker,))

    async def broken(self) -> EngineError:
        """Wait until it can compute no more; why."""
        await self._broke.wait()
        return self._defect

    def _patience_s(self, deadline_s: float | None) -> float | None:
        limits = [limit_s for limit_s in (deadline_s, self._limits.request_timeout_s or None) if limit_s is not None]
        return min(limits, default=None)

    def _check_room(self, count: int) -> None:
        if self._refusal is not None:
            message, code = self._refusal
            raise ApiError(503, message, code=code, retry_after_s=SHORTEST_RETRY_S)
        if not self._queue.has_room(count) or len(self._turns) >= self._limits.queue_size:
            waiting = len(self._queue) + len(self._turns)
            raise ApiError(
                503,
                f"the model is busy: {waiting} inputs wait already",
                code="queue_full",
                retry_after_s=max(SHORTEST_RETRY_S, waiting * self._item_s),
            )

    def _wake(self) -> None:
        self._news.set()
        if (self._worker is None or self._worker.done()) and not self._broke.is_set():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    # The worker: one call into the model at a time

    async def _work(self) -> None:
        try:
            while await self._turn():
                pass
        except Hang as problem:
            self._break(problem)
        except Exception:
            log.exception("%s: the batcher broke", self._name)
            self._break(EngineError("the engine's batcher broke: see its log"))

    async def _turn(self) -> bool:
        """One piece of each stream, then one batch; or wait for either. Whether there may be more to do."""
        self._news.clear()
        streams = self._turns.due()
        for stream in streams:
            await self._advance(stream)
        batch = self._queue.next(asyncio.get_running_loop().time())
        if isinstance(batch, list):
            await self._compute(batch)
        elif not streams:
            if batch is None and not self._turns:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(batch):
                    await self._news.wait()
        return True

    async def _compute(self, batch: list[Item]) -> None:
        """Halves of a batch that fails are tried again, until what is to blame stands alone."""
        items = [item for item in batch if not item.request.withdrawn]
        if not items:
            return
        try:
            outputs = await self._timed_outputs([item.given for item in items])
        except Hang:
            raise
        except Exception as problem:  # noqa: BLE001 - it belongs to those who asked
            if len(items) == 1 or isinstance(problem, ModelDefect):
                self._fail(items, problem)
                return
            log.warning("%s failed on %d inputs (%s): trying halves", self._name, len(items), in_one_line(problem))
            middle = len(items) // 2
            await self._compute(items[:middle])
            await self._compute(items[middle:])
        else:
            for item, output in zip(items, outputs, strict=True):
                assert isinstance(item.request, _Pending)
                item.request.settle(item.index, output)

    def _fail(self, items: list[Item], problem: Exception) -> None:
        for item in items:
            assert isinstance(item.request, _Pending)
            item.request.fail(problem)
            self._queue.withdraw(item.request)

    async def _timed_outputs(self, inputs: list[Any]) -> list[Any]:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        outputs = await self._call("predict", self._checked_outputs, inputs)
        self._item_s += RATE_WEIGHT * ((clock() - began_s) / len(inputs) - self._item_s)
        return outputs

    def _checked_outputs(self, inputs: list[Any]) -> list[Any]:
        """In the model's thread."""
        outputs = self._predict(inputs)
        if not isinstance(outputs, list | tuple):
            raise ModelDefect(f"{self._name}.predict returned {_kind(outputs)} where a list of outputs was due")
        if len(outputs) != len(inputs):
            raise ModelDefect(f"{self._name}.predict returned {len(outputs)} outputs for {len(inputs)} inputs")
        return list(outputs)

    async def _advance(self, stream: Stream) -> None:
        try:
            if stream.left:
                stream.end()
                if stream.iterator is not None:
                    await self._call("on_cancel", self._abandon, stream.iterator, stream.item)
                return
            if stream.iterator is None:
                stream.iterator = await self._call("stream", self._begin, stream.item)
            more, piece = await self._call("stream", pieces_of, stream.iterator)
        except Hang:
            stream.end(_gone(self._name))
            raise
        except Exception as problem:
            if stream.left:
                log.warning("%s failed after its client had left", self._name, exc_info=problem)
            stream.end(problem)
        else:
            if more:
                stream.put(piece)
            else:
                stream.end()

    def _begin(self, item: Any) -> Iterator[Any]:
        """In the model's thread."""
        assert self._stream is not None
        begun = self._stream(item)
        if not hasattr(begun, "__iter__"):
            raise ModelDefect(f"{self._name}.stream returned {_kind(begun)} where an iterator was due")
        return iter(begun)

    def _abandon(self, iterator: Iterator[Any], item: Any) -> None:
        """In the model's thread."""
        close_quietly(iterator)
        if self._on_cancel is not None:
            self._on_cancel(item)

    async def _call(self, what: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """In the model's thread. Raises what it raises, Hang when it does not return in time."""
        timeout_s = self._limits.predict_timeout_s
        return await call_model(self._thread, f"{self._name}.{what}", timeout_s, function, *arguments)

    def _break(self, problem: EngineError) -> None:
        self._defect = problem
        self.refuse(str(_gone(self._name)), "engine_broken")
        for request in tuple(self._pending):
            request.fail(_gone(self._name))
            self._queue.withdraw(request)
        for stream in self._turns.take_all():
            if not stream.ended:
                stream.end(_gone(self._name))
        self._broke.set()


async def _taken(stream: Stream, until_s: float | None) -> tuple[bool, Any]:
    """The next piece. Raises ApiError when it is not there in time."""
    try:
        async with asyncio.timeout_at(until_s) as waiting:
            return await stream.take()
    except TimeoutError as problem:
        if not waiting.expired():
            raise  # it is the model's own
        raise _too_late() from problem


def _too_late() -> ApiError:
    return ApiError(504, "the model did not answer in time", code="deadline_exceeded")


def _gone(name: str) -> ApiError:
    return ApiError(503, f"{name} does not answer and is ended", code="engine_broken", retry_after_s=SHORTEST_RETRY_S)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"

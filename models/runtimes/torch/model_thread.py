"""Calls into a model's code, on the one thread that is the model's own, within a time limit."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from models.runtimes.cores.crew import Crew
from models.runtimes.protocol import EngineError
from models.runtimes.torch.contained import contained, stack_of

THREAD_NAME = "model"

log = logging.getLogger("roundhouse.engine")

Result = TypeVar("Result")


class Hang(EngineError):
    """A call did not return in time. It cannot be ended, and its thread is lost with it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "hang")

    def __reduce__(self) -> tuple[type[EngineError], tuple[str]]:  # type: ignore[override]
        return type(self), (str(self),)


class _Sharing(ThreadPoolExecutor):
    """Takes its share of the cores for each call; what a class computes in it is not known, so it wants them all."""

    def __init__(self, prepare: Callable[[], object] | None, crew: Crew) -> None:
        super().__init__(1, THREAD_NAME, prepare)
        self._crew = crew

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        def called() -> Any:
            with self._crew.step(sys.maxsize):
                return fn(*arguments, **named)

        return super().submit(called)


def model_thread(prepare: Callable[[], object] | None = None, crew: Crew | None = None) -> ThreadPoolExecutor:
    """One thread for all that a model computes, and not the main one: see warming.py. ``prepare`` runs first in it."""
    return ThreadPoolExecutor(1, THREAD_NAME, prepare) if crew is None else _Sharing(prepare, crew)


async def call_model(
    thread: Executor, what: str, timeout_s: float, function: Callable[..., Result], *arguments: object
) -> Result:
    """``function``'s result. ``what`` it is, for the sentence: "Class.predict". ``timeout_s`` 0: however long it takes.

    Raises what it raises (see ``contained``), and Hang; where it hangs is in the log.
    """
    threads: list[int] = []
    context = contextvars.copy_context()  # so that what it prints and logs is known to be the caller's

    def called() -> Result:
        threads.append(threading.get_ident())
        return context.run(contained, function, *arguments)

    call = asyncio.get_running_loop().run_in_executor(thread, called)
    await asyncio.wait((call,), timeout=timeout_s or None)
    if call.done():
        return call.result()
    # Whatever it still returns or raises is nobody's business.
    call.add_done_callback(lambda done: done.cancelled() or done.exception())
    log.error("%s has not returned for %g s; it is here:\n%s", what, timeout_s, stack_of(*threads[:1]))
    raise Hang(f"{what} has not returned for {timeout_s:g} s")

"""Models that compute without threads, for stories on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from tests.gateway import virtual_time


class Inline(Executor):
    """Computes at once, in the caller's thread; ``took_s`` of virtual time passes for each call.

    A call that raises ``Never`` does not return.
    """

    def __init__(self):
        self.took_s = 0.0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            settle = partial(future.set_result, function(*arguments, **more))
        except Never:
            return future
        except BaseException as problem:  # noqa: BLE001 - as a real executor does
            settle = partial(future.set_exception, problem)
        if self.took_s:
            asyncio.get_running_loop().call_later(self.took_s, settle)
        else:
            settle()
        return future


class Never(BaseException):
    """Raised by a test's model that hangs."""


def play(story: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run ``story`` on virtual time."""
    return virtual_time.play(story())

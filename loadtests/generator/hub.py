"""The caller inside gevent's event loop: its epoll is one more file that the loop waits for."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import Any

import gevent
from gevent import monkey

from loadtests.client.address import Address
from loadtests.client.caller import Caller

_READ = 1


def new_caller(address: Address, timeout_s: float, keep: bool) -> Caller:
    """gevent takes ``epoll`` out of ``select``; the original is kept."""
    epoll = monkey.get_original("select", "epoll")
    return Caller(address, epoll(), timeout_s, keep)


class Turning:
    """While it is entered, the caller's work is done whenever there is some. No greenlet is switched for it."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._watcher: Any = None

    def __enter__(self) -> Turning:
        self._watcher = gevent.get_hub().loop.io(self._caller.fileno(), _READ)
        self._watcher.start(self._turn)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _turn(self) -> None:
        try:
            self._caller.service()
        except Exception:  # noqa: BLE001 - the edge of the loop: the others' calls go on
            traceback.print_exc(file=sys.stderr)

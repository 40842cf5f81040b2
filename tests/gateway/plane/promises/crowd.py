"""Good clients in numbers: each asks, waits for its answer, and asks again; what they felt is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.gateway.plane.promises.town import Town
from tests.gateway.plane.protocol.house import wait_until
from tests.gateway.plane.protocol.wire import Answer, Broken, Caller


@dataclass
class Felt:
    """``wrong``: what should not have happened. ``cut``: streams that ended with an error event, as promised."""

    whole: int = 0
    cut: int = 0
    wrong: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    def percentile(self, part: float) -> float:
        return sorted(self.latencies_s)[min(len(self.latencies_s) - 1, int(part * len(self.latencies_s)))]


class Crowd:
    """``size`` clients; half of their requests are streamed if ``streams``. On threads, until ``stop``."""

    def __init__(self, town: Town, size: int, *, streams: bool = False, how: dict[str, float] | None = None) -> None:
        self.felt = Felt()
        self._town = town
        self._requests = [town.request(how=how or {})]
        if streams:
            self._requests.append(town.request(stream=True, how=how or {}))
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._began_s: dict[int, float] = {}  # client -> when its request under way was sent
        self._threads = [threading.Thread(target=self._live, args=(number,), daemon=True) for number in range(size)]
        for thread in self._threads:
            thread.start()

    @property
    def asked(self) -> int:
        return len(self.felt.latencies_s)

    def go_on_for(self, requests: int) -> None:
        until = self.asked + requests
        wait_until(lambda: self.asked >= until, within_s=60.0)

    def longest_wait_s(self) -> float:
        """Of the requests that are under way."""
        now_s = time.monotonic()
        return max((now_s - began_s for began_s in tuple(self._began_s.values())), default=0.0)

    def stop(self) -> Felt:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"
        return self.felt

    def _live(self, number: int) -> None:
        client, caller = number, self._town.caller()
        while not self._over.is_set():
            request = self._requests[number % len(self._requests)]
            number += 1
            self._began_s[client] = began_s = time.monotonic()
            try:
                answer = caller.ask(request)
                problem = "" if answer.status == 200 else f"{answer.status} {answer.body[:200]!r}"
            except (Broken, OSError) as broken:
                answer, problem = None, f"{type(broken).__name__}: {broken}"
                caller.close()
                caller = self._town.caller()
            self._count(answer, problem, time.monotonic() - began_s)
        del self._began_s[client]
        caller.close()

    def _count(self, answer: Answer | None, problem: str, took_s: float) -> None:
        with self._lock:
            self.felt.latencies_s.append(took_s)
            if problem:
                self.felt.wrong.append(problem)
            elif answer is not None and answer.chunks is not None:
                self._count_stream(answer)
            else:
                self.felt.whole += 1

    def _count_stream(self, answer: Answer) -> None:
        events = answer.events
        if events[-1] == b"data: [DONE]":
            self.felt.whole += 1
        elif events[-1].startswith(b"event: error\n") and len(events) > 1:
            self.felt.cut += 1
        else:
            self.felt.wrong.append(f"a stream that ends with {events[-1][:100]!r} after {len(events)} events")


def at_once(town: Town, requests: list[bytes]) -> list[tuple[float, Answer]]:
    """All sent before the first answer is read; seconds until each answer was there, in the order of the requests."""
    callers = [town.caller() for _ in requests]
    began_s = []
    for caller, request in zip(callers, requests, strict=True):
        began_s.append(time.monotonic())
        caller.send(request)
    found: dict[int, tuple[float, Answer]] = {}
    lock = threading.Lock()

    def read(number: int, caller: Caller) -> None:
        answer = caller.answer()
        with lock:
            found[number] = (time.monotonic() - began_s[number], answer)
        caller.close()

    run_all([partial(read, number, caller) for number, caller in enumerate(callers)])
    return [found[number] for number in range(len(requests))]


def run_all(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it hangs"

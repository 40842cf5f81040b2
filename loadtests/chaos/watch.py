"""Looks at the ledger and at the processes twenty times a second, whatever else goes on, and notes what is wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loadtests.chaos.census import Census, Process
from loadtests.chaos.invariants import of_engines, of_ledger, off_the_ledger
from loadtests.target import Target
from loadtests.wire import CallFailed, get_json

EVERY_S = 0.05
ANSWER_TIMEOUT_S = 4.0
END_WAIT_S = 10.0


@dataclass(slots=True)
class Seen:
    """``ledgers``: answers looked at; ``unanswered``: questions that got none. ``wrong``: what was -> how often."""

    ledgers: int = 0
    unanswered: int = 0
    looks: int = 0  # at the processes
    wrong: dict[str, int] = field(default_factory=dict)

    def note(self, what: str) -> None:
        self.wrong[what] = self.wrong.get(what, 0) + 1

    def document(self) -> dict[str, Any]:
        return {
            "ledgers": self.ledgers,
            "unanswered": self.unanswered,
            "looks_at_processes": self.looks,
            "wrong": self.wrong,
        }


class Watch:
    """``with Watch(...) as watch``: two threads look until the end of the block; then ``watch.seen`` is whole."""

    def __init__(self, target: Target, census: Census) -> None:
        self.seen = Seen()
        self._target = target
        self._census = census
        self._engines: tuple[Process, ...] = ()
        self._seq = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._often, args=(look,), daemon=True) for look in self._looks()]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(END_WAIT_S)

    def _looks(self) -> tuple[Callable[[], None], ...]:
        return (self.look_at_processes, self.look_at_ledger)

    def _often(self, look: Callable[[], None]) -> None:
        due_s = time.monotonic()
        while not self._over.is_set():
            look()
            due_s = max(due_s + EVERY_S, time.monotonic())  # a slow look is not made up for
            self._over.wait(due_s - time.monotonic())

    def look_at_processes(self) -> None:
        engines = self._census.engines()
        self.seen.looks += 1
        self._engines = engines
        if of_engines(engines):
            # One that was seen first may have ended before its successor, seen last, was made.
            there = [engine for engine in engines if engine.alive()]
            for wrong in of_engines(there, self._leaving() if of_engines(there) else frozenset()):
                self.seen.note(wrong)

    def _leaving(self) -> frozenset[str]:
        try:
            found = get_json(self._target, "/admin/v1/replicas", admin=True, timeout_s=ANSWER_TIMEOUT_S)["data"]
        except CallFailed:
            return frozenset()
        return frozenset(replica["replica_id"] for replica in found if replica["state"] == "draining")

    def look_at_ledger(self) -> None:
        """Memory is reserved before an engine is made and released after it has ended: one that was there before the
        question and is there after the answer has its place in the answer."""
        before = self._engines
        try:
            ledger = get_json(self._target, "/admin/v1/ledger", admin=True, timeout_s=ANSWER_TIMEOUT_S)
        except CallFailed:
            self.seen.unanswered += 1
            return
        self.seen.ledgers += 1
        for wrong in of_ledger(ledger):
            self.seen.note(wrong)
        for engine in off_the_ledger(before, ledger):
            if engine.alive():
                self.seen.note(f"the engine of {engine.replica} runs without a place on the ledger")
        if ledger["seq"] < self._seq:
            self.seen.note(f"the state went back by {self._seq - ledger['seq']} steps")
        self._seq = ledger["seq"]

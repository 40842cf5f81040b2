"""Callers in threads: a crowd that never stops, one that asks until it is answered, some that wait for one answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from loadtests.chaos.calls import Call, How, place
from loadtests.chat import ChatRequest
from loadtests.target import Target

PROMPT = "Tell me something of the way home."
PATIENCE_S = 150.0  # longer than the gateway holds a request: whatever ends one sooner is an answer
END_WAIT_S = PATIENCE_S + 10.0


@dataclass(slots=True)
class Callers:
    """``calls``: all that were made, in the order of their beginnings; appended to by several threads."""

    target: Target
    calls: list[Call] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _enough: threading.Event = field(default_factory=threading.Event)

    def crowd(self, model: str, count: int, tokens: int, pause_s: float = 0.0) -> None:
        """``count`` callers that ask again as soon as they were answered, every other one for a stream."""
        for number in range(count):
            self._begin(self._keep_asking, model, number % 2 == 0, tokens, pause_s)

    def once(self, model: str, count: int, tokens: int) -> None:
        """``count`` callers that ask one question each, every other one for a stream."""
        for number in range(count):
            self._begin(self._ask, model, number % 2 == 0, tokens)

    def until_answered(self, model: str, tokens: int, every_s: float) -> None:
        """One caller that asks again, ``every_s`` later, until a whole answer has come."""
        self._begin(self._insist, model, tokens, every_s)

    def enough(self) -> None:
        """Nobody asks again; what is being answered goes on."""
        self._enough.set()

    def join(self, within_s: float = END_WAIT_S) -> int:
        """Wait until all calls are over; how many callers still wait after ``within_s``."""
        self._enough.set()
        give_up_s = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, give_up_s - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def answered(self, since_s: float = 0.0) -> list[Call]:
        """Calls that began at ``since_s`` or later and got a whole answer."""
        return [call for call in list(self.calls) if call.how is How.OK and call.began_s >= since_s]

    def open(self) -> int:
        """Calls that are neither answered nor failed."""
        return sum(not call.over for call in list(self.calls))

    def _begin(self, what: object, *args: object) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _keep_asking(self, model: str, streamed: bool, tokens: int, pause_s: float) -> None:
        while not self._enough.is_set():
            self._ask(model, streamed, tokens)
            self._enough.wait(pause_s)

    def _insist(self, model: str, tokens: int, every_s: float) -> None:
        while not self._enough.is_set() and self._ask(model, False, tokens).how is not How.OK:
            self._enough.wait(every_s)

    def _ask(self, model: str, streamed: bool, tokens: int) -> Call:
        call = Call(model, streamed, time.monotonic())
        self.calls.append(call)
        place(self.target, ChatRequest(model, PROMPT, tokens, whole_length=True), call, time.monotonic, PATIENCE_S)
        return call


def over(callers: Iterable[Callers]) -> list[Call]:
    """Every call of theirs that has ended."""
    return [call for each in callers for call in each.calls if call.over]

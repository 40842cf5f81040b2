"""No request is lost or made up, whatever becomes of it: planned = sent + not sent, sent = answered + failed.

Workers here call nobody: what is due is done at once, in its order, and each call ends as the test says.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.client.call import UNFINISHED, Call
from loadtests.client.caller import Caller
from loadtests.client.moments import Stamps
from loadtests.client.reading import Lateness
from loadtests.generator.collected import Collected, pack, unpack
from loadtests.generator.worker import Share, Worker
from loadtests.load.plan import Arrival, Phase, Plan
from loadtests.load.settings import Settings
from loadtests.load.wish import Wish, Writer
from loadtests.outcome.health import report
from loadtests.outcome.slo import Good
from loadtests.outcome.summary import summary

END_S, ZERO_S, THINK_S = 10.0, 1000.0, 1.0
SETTINGS = Settings(models=("m",), think_s=THINK_S)
WRITER = Writer(SETTINGS, {"": ""})
ANSWERED, REFUSED, HANGS = "answered", "refused", "hangs"


class Played:
    """In a caller's place. ``fates``: of its calls, round and round."""

    def __init__(self, fates: list[str]) -> None:
        self.stamps, self.late = Stamps(), Lateness()
        self.events = self.connections = self.retried = 0
        self.now_s = ZERO_S
        self._fates = itertools.cycle(fates)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._open: list[tuple[Call, Callable[[Call], None]]] = []

    @property
    def open_calls(self) -> int:
        return len(self._open)

    @property
    def untouched(self) -> int:
        return len(self._due)

    def at(self, when_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when_s, next(self._numbers), do))

    def begin(self, call: Call, finished: Callable[[Call], None]) -> None:
        call.sent_s = self.now_s
        fate = next(self._fates)
        if fate == HANGS:
            self._open.append((call, finished))
            return
        call.ended_s = self.now_s + 0.5
        if fate == REFUSED:
            call.fail("overloaded", "no room")
        finished(call)

    def play(self, most: int) -> None:
        """So many of the things that are due."""
        while self._due and most:
            most -= 1
            self.now_s, _, do = heapq.heappop(self._due)
            do()

    def abort_all(self, error: str, message: str) -> int:
        cut, self._open = self._open, []
        for call, finished in cut:
            call.ended_s = self.now_s
            call.fail(error, message)
            finished(call)
        return len(cut)


def made(plan: Plan, fates: list[str], number: int, workers: int) -> tuple[Worker, Played]:
    played = Played(fates)
    worker = Worker(SETTINGS, plan, WRITER, cast(Caller, played), Share(number, workers, ZERO_S))
    worker.schedule()
    return worker, played


def told(worker: Worker, collected: Collected, most: int) -> None:
    """Everything that it has, by way of a parcel to the master."""
    while True:
        batch = unpack(pack(worker.take(most)))
        collected.take(batch)
        if not worker.untold:
            return


arrivals = st.lists(
    st.tuples(st.integers(0, 159).map(lambda sixteenth: sixteenth / 16), st.integers(1, 4)), min_size=1, max_size=14
).map(sorted)
fates = st.lists(st.sampled_from([ANSWERED, ANSWERED, REFUSED, HANGS]), min_size=1, max_size=9)


@settings(deadline=None)
@given(arrivals, fates, st.integers(1, 4), st.integers(0, 12), st.integers(1, 5))
def test_every_request_is_somewhere(
    wanted: list[tuple[float, int]], fated: list[str], count: int, played_first: int, most: int
) -> None:
    """Stopped by hand after so many events of each worker."""
    asked = tuple(Arrival(at_s, Wish("m", turns=turns, place=place)) for place, (at_s, turns) in enumerate(wanted))
    plan = Plan((Phase("all", 0.0, END_S),), END_S, asked)
    collected, left = Collected(), 0
    for number in range(count):
        worker, played = made(plan, fated, number, count)
        played.play(played_first)
        told(worker, collected, most)
        worker.finish()
        left += played.untouched
        played.play(1000)  # what comes due when it is over is not sent
        told(worker, collected, most)
    rows, healths = collected.rows, list(collected.workers.values())
    planned, sent = (sum(getattr(health, name) for health in healths) for name in ("planned", "sent"))
    assert collected.done == set(range(count))
    assert planned == sent + left
    assert sent == len(rows)
    whole: dict[str, Any] = summary(rows, plan.phases, END_S, Good())
    assert whole["answered"] + whole["failed"] == sent
    errors = {error["code"]: error["count"] for error in whole["errors"]}
    assert set(errors) <= {"overloaded", UNFINISHED}
    assert sum(errors.values()) == whole["failed"]
    judged = report(healths, [], rows)
    assert (f"{left} of {planned} planned requests were never sent" in judged["reasons"]) == bool(left)


@settings(deadline=None)
@given(arrivals, st.integers(1, 4))
def test_workers_together_send_what_one_would(wanted: list[tuple[float, int]], count: int) -> None:
    asked = tuple(Arrival(at_s, Wish("m", turns=turns, place=place)) for place, (at_s, turns) in enumerate(wanted))
    plan = Plan((Phase("all", 0.0, END_S),), END_S, asked)

    def sent(workers: int) -> list[tuple[int, int]]:
        collected = Collected()
        for number in range(workers):
            worker, played = made(plan, [ANSWERED], number, workers)
            played.play(1000)
            worker.finish()
            told(worker, collected, 3)
        return sorted((row.scheduled_us or 0, row.turn) for row in collected.rows)

    assert sent(count) == sent(1)
    assert all(due_us < END_S * 1e6 for due_us, _ in sent(1)), "nothing is begun after the end"
    first = [due_us for due_us, turn in sent(1) if turn == 1]
    assert first == [round(at_s * 1e6) for at_s, _ in wanted]


@settings(deadline=None)
@given(arrivals)
def test_a_turn_is_due_after_the_answer_before_and_some_thought(wanted: list[tuple[float, int]]) -> None:
    asked = tuple(Arrival(at_s, Wish("m", turns=turns, place=place)) for place, (at_s, turns) in enumerate(wanted))
    worker, played = made(Plan((Phase("all", 0.0, END_S),), END_S, asked), [ANSWERED], 0, 1)
    played.play(1000)
    rows = worker.take(1000).rows
    expected = sum(
        1 for at_s, turns in wanted for turn in range(turns) if not turn or at_s + turn * (0.5 + THINK_S) < END_S
    )
    assert len(rows) == expected

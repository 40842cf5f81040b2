"""A worker's share of a run, without Locust: its arrivals at their moments, and a row of each."""

from __future__ import annotations

import contextlib
import itertools
import select
from collections.abc import Iterator
from pathlib import Path

from loadtests.client.address import find_address
from loadtests.client.caller import Caller
from loadtests.client.moments import clock
from loadtests.generator.meter import Meter, waited_s
from loadtests.generator.worker import Share, Worker
from loadtests.load.plan import Arrival, Phase, Plan
from loadtests.load.settings import Settings
from loadtests.load.wish import Wish, Writer
from loadtests.outcome.rows import Row
from tests.loadtests.fake_service import API_KEY, FakeModel, FakeService

PATIENCE_S = 20.0


def plan(*at_s: float, turns: int = 1) -> Plan:
    arrivals = tuple(Arrival(at, Wish("m", place=number, turns=turns)) for number, at in enumerate(at_s))
    return Plan((Phase("first", 0.0, 0.1), Phase("second", 0.1, 0.2)), 0.2, arrivals)


@contextlib.contextmanager
def working(made: Plan, number: int = 0, workers: int = 1, model: FakeModel | None = None) -> Iterator[Worker]:
    settings = Settings(models=("m",), think_s=0.02)
    with FakeService({"m": model or FakeModel(state="ready")}).running() as service:
        caller = Caller(find_address(service.target), select.epoll())
        writer = Writer(settings, {"": API_KEY})
        worker = Worker(settings, made, writer, caller, Share(number, workers, clock() + 0.02))
        worker.schedule()
        try:
            yield worker
        finally:
            worker.finish()
            caller.close()


def play(worker: Worker) -> list[Row]:
    give_up_s = clock() + PATIENCE_S
    while not worker.quiet():
        assert clock() < give_up_s
        worker.caller.service(0.02)
    return worker.take(100).rows


def test_arrivals_leave_when_they_are_due_and_belong_to_their_phase() -> None:
    with working(plan(0.0, 0.05, 0.15)) as worker:
        rows = sorted(play(worker), key=lambda row: row.begun_us)
        assert worker.run_s >= 0.2
    assert [row.scheduled_us for row in rows] == [0, 50_000, 150_000]
    assert [row.phase for row in rows] == [0, 0, 1]
    assert all(row.late_us is not None and row.late_us >= 0 for row in rows)
    assert [len(row.gaps_us) for row in rows] == [3, 3, 3]


def test_each_worker_has_its_own_part_and_all_have_the_whole() -> None:
    made = plan(*(number / 50 for number in range(9)))
    places = []
    for number in range(2):
        with working(made, number, 2) as worker:
            rows = play(worker)
            assert worker.take(1).health is not None
            assert worker.meter.health.planned == worker.meter.health.sent == len(rows)
            places += [row.scheduled_us for row in rows]
            assert {row.worker for row in rows} == {number}
    assert sorted(place or 0 for place in places) == [round(number / 50 * 1e6) for number in range(9)]


def test_the_next_turn_is_due_after_some_thought() -> None:
    with working(plan(0.0, turns=3)) as worker:
        rows = play(worker)
    assert [row.turn for row in rows] == [1, 2, 3]
    for one, later in itertools.pairwise(rows):
        assert later.scheduled_us is not None
        assert abs(later.scheduled_us - one.end_us - 20_000) <= 2


def test_a_conversation_ends_with_its_first_failure() -> None:
    with working(plan(0.0, turns=3), model=FakeModel(refusal=(503, "no"))) as worker:
        assert [row.error for row in play(worker)] == ["model_start_failed"]


def test_what_is_open_at_the_end_was_not_answered() -> None:
    with working(plan(0.0, 0.01), model=FakeModel(breaks="hang")) as worker:
        give_up_s = clock() + PATIENCE_S
        while worker.meter.health.sent < 2 or worker.run_s < 0.2:
            assert clock() < give_up_s
            worker.caller.service(0.02)
        assert not worker.quiet()
        worker.finish()
        first, rest = worker.take(1), worker.take(5)
        assert [row.error for row in first.rows + rest.rows] == ["unfinished"] * 2
        assert (first.done, rest.done) == (False, True)


def test_a_second_of_its_own() -> None:
    with working(plan(0.0)) as worker:
        play(worker)
        worker.look()
        (second,) = worker.take(0).seconds
        assert (second.sent, second.open, second.worker) == (1, 0, 0)
        assert second.cpu_share > 0
        assert second.events > 0
        meter = Meter(worker.caller, 3, 0.0)
        meter.sent(0.25)
        assert meter.look().late_ms == 250
        assert meter.look().late_ms == 0
        assert meter.report().read_counts


def test_time_that_others_had_the_core(tmp_path: Path) -> None:
    (tmp_path / "schedstat").write_text("5 2500000000 7\n")
    assert waited_s(tmp_path / "schedstat") == 2.5
    assert waited_s(tmp_path / "none") == 0.0
    (tmp_path / "schedstat").write_text("")
    assert waited_s(tmp_path / "schedstat") == 0.0

"""Reports of several gateway workers, merged."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.control.demand import DemandBook, Traffic
from models.control.failures import FailureBook
from models.store.records import DemandReport, ModelDemand
from packers.types import ModelId, ReplicaId

A = ModelId("a")
R = ReplicaId("a-1")


def _report(
    worker: str, sent: float, held: int = 0, since: float | None = None, version: int = 1, busy: int = 0
) -> DemandReport:
    return DemandReport(
        worker=worker,
        routes_version=version,
        sent_unix_s=sent,
        models={"a": ModelDemand(in_flight=busy, held=held, oldest_held_unix_s=since, last_request_unix_s=sent)},
        replicas={"a-1": busy},
    )


def test_counts_add_up_and_the_oldest_wait_counts() -> None:
    book = DemandBook()
    book.put(_report("w1", 10.0, held=2, since=4.0, busy=1))
    book.put(_report("w2", 10.0, held=3, since=7.0, busy=2))
    demand = book.model(A, now=10.0)
    assert (demand.held, demand.in_flight, demand.oldest_wait_s) == (5, 3, 6.0)
    assert book.in_flight(R) == 3
    assert book.last_request(A) == 10.0


def _numbered(number: int, sent: float, held: int = 0) -> DemandReport:
    return msgspec.structs.replace(_report("w1", sent, held=held), number=number)


def test_an_older_report_does_not_replace_a_newer_one_whatever_the_clock_of_its_worker_said() -> None:
    book = DemandBook()
    book.put(_numbered(7, sent=3600.0, held=0), now=10.0)
    book.put(_numbered(6, sent=7200.0, held=5), now=10.1)
    assert book.model(A, now=10.1).held == 0
    book.put(_numbered(8, sent=5.0, held=2), now=10.2)  # its clock was set back meanwhile
    assert book.model(A, now=10.2).held == 2


def test_the_last_report_of_a_dead_worker_does_not_keep_it_alive_however_often_it_is_read() -> None:
    book = DemandBook()
    for tenth in range(29):
        book.put(_numbered(3, sent=10.0, held=5), now=10.0 + tenth / 10)
        book.expire(10.0 + tenth / 10)
        assert book.workers == 1
    book.put(_numbered(3, sent=10.0, held=5), now=13.05)
    book.expire(13.05)
    assert book.workers == 0
    assert not book.model(A, now=13.05).present


@pytest.mark.parametrize("skew_s", [3600.0, -3600.0, 0.0])
def test_what_a_worker_with_a_wrong_clock_says_is_moved_to_the_loops(skew_s: float) -> None:
    """Its report takes 20 ms."""
    book = DemandBook()
    model = ModelDemand(
        in_flight=1,
        held=2,
        oldest_held_unix_s=94.0 + skew_s,
        last_request_unix_s=99.0 + skew_s,
        earliest_deadline_unix_s=130.0 + skew_s,
        arrived=5,
    )
    sent = DemandReport(worker="w", routes_version=1, sent_unix_s=100.0 + skew_s, models={"a": model}, number=1)
    book.put(sent, now=100.02)
    demand = book.model(A, now=100.02)
    assert demand.oldest_wait_s == pytest.approx(6.0)
    assert demand.earliest_deadline_s == pytest.approx(130.02)
    assert book.last_request(A) == pytest.approx(99.02)
    book.expire(103.0)
    assert book.workers == 1, "a wrong clock makes no report old"
    book.expire(103.1)
    assert book.workers == 0, "nor does it make one last"


def test_a_report_that_was_slow_to_come_does_not_move_a_clock_that_is_known() -> None:
    book = DemandBook()
    for number, late_s in enumerate([0.01, 2.5, 1.0, 0.3], start=1):
        model = ModelDemand(held=1, oldest_held_unix_s=50.0)
        sent = DemandReport(worker="w", routes_version=1, sent_unix_s=60.0 + number, models={"a": model}, number=number)
        book.put(sent, now=60.0 + number + late_s)
        waited_s = book.model(A, now=60.0 + number + late_s).oldest_wait_s
        assert waited_s == pytest.approx(10.0 + number + late_s, abs=0.02)


def test_nobody_was_asked_for_in_the_future() -> None:
    """A worker whose clock was set back by an hour: its models were last asked for an hour from now."""
    book = DemandBook()
    model = ModelDemand(last_request_unix_s=3700.0)
    book.put(DemandReport(worker="w", routes_version=1, sent_unix_s=100.0, models={"a": model}), now=100.0)
    assert book.last_request(A) == 100.0


def test_a_silence_that_was_nobodys_makes_no_report_old() -> None:
    book = DemandBook()
    book.put(_report("w1", 10.0, held=5, since=9.0))
    book.missed(30.0)
    book.expire(42.0)
    assert book.model(A, now=42.0).held == 5
    assert not book.all_heard_since(40.5)
    book.put(_report("w1", 41.0, held=4, since=9.0))
    assert book.all_heard_since(40.5)


def test_the_newest_table_that_anybody_routes_by_is_known() -> None:
    book = DemandBook()
    assert book.routes_version == 0
    book.put(_report("w1", 10.0, version=5))
    book.put(_report("w2", 10.0, version=9))
    assert book.routes_version == 9


def test_a_silent_worker_leaves_no_ghost_demand() -> None:
    book = DemandBook()
    book.put(_report("w1", 10.0, held=5, since=1.0))
    book.expire(12.9)
    assert book.model(A, now=12.9).present
    book.expire(13.1)
    assert not book.model(A, now=13.1).present
    assert book.workers == 0


def test_drained_needs_every_worker_to_know_and_to_be_done() -> None:
    book = DemandBook()
    book.put(_report("w1", 10.0, version=5))
    book.put(_report("w2", 10.0, version=4))
    assert not book.drained(R, 5)
    book.put(_report("w2", 10.1, version=5, busy=1))
    assert not book.drained(R, 5)
    book.put(_report("w2", 10.2, version=6))
    assert book.drained(R, 5)
    assert DemandBook().drained(R, 5), "with nobody routing there is nobody to wait for"


def test_back_off_doubles_up_to_a_minute_and_is_forgotten_on_success() -> None:
    book = FailureBook()
    waits = [book.failed(A, "no", 100.0).retry_at_unix_s - 100.0 for _ in range(8)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    book.forget(A)
    assert book.get(A) is None
    assert book.failed(A, "no", 100.0).retry_at_unix_s == 101.0


def test_a_refusal_is_news_only_once() -> None:
    book = FailureBook()
    assert book.refused(A, "too large", 1.0)
    assert not book.refused(A, "too large", 2.0)
    assert book.refused(A, "larger still", 3.0)
    assert book.retry_at(A) == 0.0


def _counts(
    worker: str, sent: float, arrived: int, finished: int = 0, busy_s: float = 0.0, since: float = 5.0
) -> DemandReport:
    model = ModelDemand(arrived=arrived, finished=finished, busy_s=busy_s)
    return DemandReport(worker=worker, routes_version=1, sent_unix_s=sent, since_unix_s=since, models={"a": model})


def test_what_came_since_the_last_time_is_told_once_for_all_workers_together() -> None:
    book = DemandBook(began_s=0.0)
    book.put(_counts("w1", 10.0, arrived=3, finished=2, busy_s=1.5))
    book.put(_counts("w2", 10.0, arrived=1))
    assert book.take_traffic() == {A: Traffic(arrived=4, finished=2, busy_s=1.5)}
    assert book.take_traffic() == {}
    book.put(_counts("w1", 10.5, arrived=5, finished=3, busy_s=2.0))
    assert book.take_traffic() == {A: Traffic(arrived=2, finished=1, busy_s=0.5)}


def test_a_lost_report_loses_no_request() -> None:
    book = DemandBook()
    book.put(_counts("w1", 10.0, arrived=3))
    book.put(_counts("w1", 30.0, arrived=50))
    book.expire(30.0)
    assert book.take_traffic() == {A: Traffic(arrived=50)}


def test_a_worker_that_was_cut_off_goes_on_counting_where_it_was() -> None:
    book = DemandBook()
    book.put(_counts("w1", 10.0, arrived=3))
    book.take_traffic()
    book.expire(20.0)
    assert book.workers == 0
    book.put(_counts("w1", 21.0, arrived=4))
    assert book.take_traffic() == {A: Traffic(arrived=1)}


def test_a_worker_that_began_again_counts_from_zero() -> None:
    book = DemandBook()
    book.put(_counts("w1", 10.0, arrived=30, finished=30, busy_s=9.0))
    book.take_traffic()
    book.put(_counts("w1", 12.0, arrived=2, finished=1, busy_s=0.5))
    assert book.take_traffic() == {A: Traffic(arrived=2, finished=1, busy_s=0.5)}


def test_what_was_counted_for_an_earlier_controller_is_old_news() -> None:
    book = DemandBook(began_s=100.0)
    book.put(_counts("old", 101.0, arrived=1000, since=50.0))
    book.put(_counts("new", 101.0, arrived=2, since=100.5))
    assert book.take_traffic() == {A: Traffic(arrived=2)}
    book.put(_counts("old", 102.0, arrived=1001, since=50.0))
    assert book.take_traffic() == {A: Traffic(arrived=1)}


def test_the_first_deadline_of_all_that_are_held_counts() -> None:
    book = DemandBook()
    for worker, deadline in (("w1", 50.0), ("w2", 40.0), ("w3", None)):
        model = ModelDemand(held=1, oldest_held_unix_s=9.0, earliest_deadline_unix_s=deadline)
        book.put(DemandReport(worker=worker, routes_version=1, sent_unix_s=10.0, models={"a": model}))
    assert book.model(A, now=10.0).earliest_deadline_s == 40.0
    assert DemandBook().model(A, now=10.0).earliest_deadline_s is None


@given(st.lists(st.tuples(st.sampled_from(["w1", "w2"]), st.integers(0, 5), st.booleans()), max_size=40))
def test_no_request_is_lost_or_told_twice(steps: list[tuple[str, int, bool]]) -> None:
    """Whatever is reported in which order, and however often it is asked for."""
    book, counters, told, sent = DemandBook(), {"w1": 0, "w2": 0}, 0, 0.0
    for worker, more, ask in steps:
        sent += 1.0
        counters[worker] += more
        book.put(_counts(worker, sent, arrived=counters[worker]))
        book.expire(sent + 2.5)
        if ask:
            told += sum(seen.arrived for seen in book.take_traffic().values())
    told += sum(seen.arrived for seen in book.take_traffic().values())
    assert told == sum(counters.values())

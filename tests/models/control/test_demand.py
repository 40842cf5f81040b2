"""Reports of several gateway workers, merged."""

from __future__ import annotations

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


def test_an_older_report_does_not_replace_a_newer_one() -> None:
    book = DemandBook()
    book.put(_report("w1", 10.0, held=0))
    book.put(_report("w1", 9.0, held=5, since=1.0))
    assert book.model(A, now=10.0).held == 0


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

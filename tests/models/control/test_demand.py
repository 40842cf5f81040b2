"""Reports of several gateway workers, merged."""

from __future__ import annotations

from models.control.demand import DemandBook
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

"""When a run may not be believed."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.client.reading import Lateness
from loadtests.outcome.health import Second, WorkerHealth, busiest, report
from loadtests.outcome.rows import Row
from tests.loadtests.outcome.made import row


def reads(late_s: float) -> WorkerHealth:
    late = Lateness()
    for _ in range(100):
        late.add(late_s)
    return WorkerHealth(
        0,
        reads=100,
        stamped=100,
        read_counts=late.counts(),
        read_worst_s=late_s,
        cpu_s=1,
        wall_s=10,
    )


def seconds(*shares: float, worker: int = 0) -> list[Second]:
    return [Second(at, worker, share, 0.0, 1, 1, 1, 0.0, 0.0) for at, share in enumerate(shares)]


def judged(
    rows: list[Row] | None = None, worker: WorkerHealth | None = None, at: list[Second] | None = None
) -> dict[str, Any]:
    """``worker`` is told how many rows there are, unless it says otherwise."""
    found, one = rows or [row()], worker or reads(1e-4)
    one.planned, one.sent = one.planned or len(found), one.sent or len(found)
    return report([one], at or seconds(0.2, 0.3), found)


def test_a_generator_with_time_to_spare_is_believed() -> None:
    found = judged()
    assert (found["valid"], found["reasons"], found["clock"]) == (True, [], "kernel")
    assert found["cpu_share"] == [0.1]
    assert found["read_late_ms"]["p99"] == pytest.approx(0.1, rel=0.11)


def test_requests_that_left_late_make_it_invalid() -> None:
    found = judged([row(late_ms=30.0)] * 5 + [row()] * 95)
    assert found["reasons"] == ["requests left late: p99 30.0 ms (at most 10.0)"]
    assert not found["valid"]


def test_one_late_request_in_a_thousand_does_not() -> None:
    assert judged([row(late_ms=300.0)] + [row()] * 999)["valid"]


def test_where_answers_take_seconds_some_ms_do_not_matter() -> None:
    assert judged([row(late_ms=19.0, ttft_ms=1000.0, e2e_ms=2000.0)] * 10)["valid"]


def test_late_reads_matter_less_where_the_kernel_tells_the_time() -> None:
    assert judged(worker=reads(0.015))["valid"]
    assert judged(worker=reads(0.03))["reasons"] == ["answers were read late: p99 30.0 ms (at most 20.0)"]
    alone = reads(0.015)
    alone.stamped = 0
    assert judged(worker=alone)["reasons"] == ["answers were read late: p99 15.0 ms (at most 5.0)"]


def test_a_busy_core_makes_it_invalid_when_it_stays_busy() -> None:
    assert judged(at=seconds(0.1, 1.0, 0.1, 0.1, 0.1, 0.1))["valid"]
    found = judged(at=seconds(0.1, 0.95, 0.97, 0.96, 0.94, 0.99, 0.1))
    assert found["reasons"] == ["a worker used 96% of its core for 5 s (at most 90%); add --workers"]


def test_the_busiest_worker_counts() -> None:
    assert busiest(seconds(0.1, 0.1) + seconds(0.8, 0.6, worker=1)) == pytest.approx(0.7)
    assert busiest([]) == 0


def test_what_was_planned_and_not_sent_makes_it_invalid() -> None:
    worker = reads(1e-4)
    worker.planned, worker.sent = 10, 7
    assert judged([row()] * 7, worker)["reasons"] == ["3 of 10 planned requests were never sent"]


def test_what_was_sent_and_has_no_end_makes_it_invalid() -> None:
    worker = reads(1e-4)
    worker.planned, worker.sent = 10, 10
    assert judged([row()] * 8, worker)["reasons"] == ["2 of 10 requests were sent and have no end here"]


def test_a_worker_that_was_lost_makes_it_invalid() -> None:
    found = report([WorkerHealth(0, planned=1, sent=1)], [], [row()], lost=1)
    assert found["reasons"] == ["1 of the generator's workers did not tell their end: what they saw is missing"]
    assert (found["valid"], found["lost_workers"]) == (False, 1)


def test_calls_that_met_a_closed_connection_are_counted() -> None:
    workers = [WorkerHealth(number, planned=1, sent=1, retried=number) for number in (1, 2)]
    assert report(workers, [], [row(), row()])["retried"] == 3


def test_a_generator_without_descriptors_says_so() -> None:
    assert judged([row(error="no_descriptors")])["reasons"] == [
        "1 requests found no descriptor left: raise `ulimit -n`"
    ]

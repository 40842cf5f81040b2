"""A run while it lasts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from loadtests.generator.collected import Collected, pack, unpack
from loadtests.generator.live import Metrics, Progress
from loadtests.generator.worker import Batch
from loadtests.outcome.health import Second, WorkerHealth
from tests.loadtests.outcome.made import row

NOW = [Second(3.0, 0, 0.25, 0.0, 7, 12, 99, 0.4, 0.1), Second(3.0, 1, 0.5, 0.0, 3, 8, 50, 1.5, 0.2)]


def test_the_line_says_what_a_person_wants_to_know() -> None:
    progress = Progress(60.0)
    progress.take([row(ttft_ms=20.0), row(ttft_ms=40.0), row(error="timeout"), row(error="timeout")], NOW)
    assert progress.line(3.2) == (
        "   3/60 s, 10 open, 4 done (20/s), TTFT p50/p99 20/40 ms, 2 failed (most: 2 x timeout), "
        "generator 50% busy, 1.5 ms late"
    )


def test_a_line_before_anything_happened() -> None:
    assert Progress(5.0).line(9.0) == "   5/5 s, 0 open, 0 done (0/s), generator 0% busy, 0.0 ms late"


def test_metrics_for_prometheus() -> None:
    registry = CollectorRegistry()
    Metrics(registry, "spike").take([row(), row(error="overloaded"), row(ttft_ms=None, stream=False)], NOW)
    text = generate_latest(registry).decode()
    assert 'roundhouse_loadtest_requests_total{model="m",outcome="answered",suite="spike"} 2.0' in text
    assert 'roundhouse_loadtest_requests_total{model="m",outcome="overloaded",suite="spike"} 1.0' in text
    assert 'roundhouse_loadtest_time_to_first_token_seconds_count{model="m",suite="spike"} 1.0' in text
    assert 'roundhouse_loadtest_gap_seconds_count{model="m",suite="spike"} 2.0' in text
    assert 'roundhouse_loadtest_open_requests{worker="1"} 3.0' in text


def test_batches_arrive_as_they_were_sent() -> None:
    batch = Batch([row(timing_ms={"auth": 0.5}), row(error="x")], NOW, WorkerHealth(1, planned=4), done=True)
    assert unpack(pack(batch)) == batch


def test_the_latest_of_each_worker_counts_until_all_are_done() -> None:
    collected = Collected()
    collected.take(Batch([row()], [], WorkerHealth(0, sent=1)))
    collected.take(Batch([row()], NOW, WorkerHealth(0, sent=2), done=True))
    collected.take(Batch([], [], WorkerHealth(1, sent=5)))
    assert (len(collected.rows), collected.done) == (2, {0})
    assert [collected.workers[number].sent for number in (0, 1)] == [2, 5]

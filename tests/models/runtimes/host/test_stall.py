"""What is a hang and what only looks like one."""

from __future__ import annotations

from models.runtimes.host.stall import StallWatch


def looks(watch, seconds, *, in_flight=1, progress=0, used_s=0.0, elapsed_s=1.0):
    """After how many looks it calls it a hang; None when it never does."""
    for number in range(1, seconds + 1):
        moved = progress * number
        if watch.look(elapsed_s, in_flight, moved, used_s):
            return number
    return None


def test_requests_without_an_answer_or_a_computation_are_a_hang():
    assert looks(StallWatch(10.0), 100) == 11


def test_an_engine_with_nothing_to_do_does_not_hang():
    assert looks(StallWatch(10.0), 100, in_flight=0) is None


def test_a_stream_that_flows_does_not_hang():
    assert looks(StallWatch(10.0), 100, progress=1) is None


def test_a_long_prefill_uses_the_processor():
    assert looks(StallWatch(10.0), 1000, used_s=0.3) is None


def test_an_idle_engines_housekeeping_is_no_computation():
    assert looks(StallWatch(10.0), 100, used_s=0.005) == 11


def test_a_suspended_machine_does_not_count():
    watch = StallWatch(10.0)
    watch.look(1.0, 1, 0, 0.0)
    assert not watch.look(3600.0, 1, 0, 0.0)
    assert looks(watch, 100) == 8


def test_the_time_begins_anew_with_each_answer():
    watch = StallWatch(10.0)
    assert looks(watch, 9) is None
    watch.look(1.0, 1, 7, 0.0)
    assert not any(watch.look(1.0, 1, 7, 0.0) for _ in range(9))
    assert watch.look(1.0, 1, 7, 0.0)

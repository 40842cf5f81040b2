"""Times of the kernel, and lateness."""

from __future__ import annotations

import select
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.client.moments import SO_TIMESTAMPNS, Alarm, Stamps, clock
from loadtests.client.reading import Lateness


def test_the_kernels_time_becomes_ours() -> None:
    stamps = Stamps()
    now_s = clock()
    unix_ns = time.time_ns() - 5_000_000
    stamp = struct.pack("qq", unix_ns // 10**9, unix_ns % 10**9)
    assert stamps.arrived_s([(1, SO_TIMESTAMPNS, stamp)], now_s) == pytest.approx(now_s - 0.005, abs=0.002)
    assert stamps.seen == 1


def test_without_it_or_from_the_future_it_is_now() -> None:
    stamps = Stamps()
    ahead = struct.pack("qq", int(time.time()) + 100, 0)
    assert stamps.arrived_s([], 7.0) == 7.0
    assert stamps.arrived_s([(1, 99, b"")], 7.0) == 7.0
    assert stamps.arrived_s([(1, SO_TIMESTAMPNS, ahead)], 7.0) == 7.0


def test_an_alarm_rings_at_its_time() -> None:
    alarm = Alarm()
    due_s = clock() + 0.02
    alarm.set(due_s)
    with select.epoll() as poll:
        poll.register(alarm.fd, select.EPOLLIN)
        assert poll.poll(10) == [(alarm.fd, select.EPOLLIN)]
        assert clock() >= due_s
        alarm.take()
        assert poll.poll(0) == []
    alarm.take()
    alarm.close()


@given(st.lists(st.floats(0, 900), min_size=1), st.sampled_from([50, 90, 99, 100]))
def test_lateness_is_known_within_a_tenth(values: list[float], percent: int) -> None:
    late = Lateness()
    for value in values:
        late.add(value)
    rank = max(1, -(-percent * len(values) // 100))
    exact = sorted(values)[rank - 1]
    assert exact - 1e-9 <= late.percentile_s(percent) + 1e-6
    assert late.percentile_s(percent) <= max(1.1 * exact, 1.1e-6) + 1e-9
    assert late.worst_s == max(values)


def test_counts_of_workers_add_up() -> None:
    one, other = Lateness(), Lateness()
    one.add(0.001)
    other.add(0.5)
    one.merge(other.counts(), other.worst_s)
    assert (one.count, one.worst_s) == (2, 0.5)
    assert one.percentile_s(100) == 0.5
    assert Lateness().percentile_s(99) == 0.0

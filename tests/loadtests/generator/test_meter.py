"""How busy a worker was, and what it tells of itself."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.client.address import find_address
from loadtests.client.caller import Caller
from loadtests.client.moments import clock
from loadtests.generator.meter import Meter, waited_s
from loadtests.target import Target


@contextlib.contextmanager
def metered() -> Iterator[tuple[Meter, Caller]]:
    caller = Caller(find_address(Target("http://127.0.0.1:9")), select.epoll())
    try:
        yield Meter(caller, worker=3, zero_s=clock()), caller
    finally:
        caller.close()


def test_a_second_counts_from_the_look_before() -> None:
    with metered() as (meter, caller):
        for late_s in (0.001, 0.004, 0.002):
            meter.sent(late_s)
        caller.events += 7
        caller.read_late(0.003)
        first, second = meter.look(), meter.look()
    assert (first.worker, first.sent, first.events) == (3, 3, 7)
    assert (first.late_ms, first.read_ms) == (4.0, 3.0)
    assert (second.sent, second.events, second.late_ms, second.read_ms) == (0, 0, 0.0, 0.0)
    assert second.at_s >= first.at_s >= 0


def test_a_busy_second_is_seen() -> None:
    with metered() as (meter, _):
        until_s = clock() + 0.05
        while clock() < until_s:
            sum(range(1000))
        busy = meter.look()
    assert 0 < busy.cpu_share <= 1.5  # of a core, by a clock of another grain
    assert busy.waited_share >= 0


def test_the_report_is_of_the_whole_run() -> None:
    with metered() as (meter, caller):
        meter.sent(0.0)
        meter.look()
        meter.sent(0.0)
        for late_s in (0.001, 0.02):
            caller.read_late(late_s)
        health = meter.report()
    assert (health.worker, health.sent, health.reads) == (3, 2, 2)
    assert health.read_worst_s == 0.02
    assert sum(health.read_counts) == 2
    assert health.wall_s > 0


@pytest.mark.parametrize(("text", "found"), [("5 2500000000 3\n", 2.5), ("", 0.0), ("5\n", 0.0), ("a b c", 0.0)])
def test_how_long_others_had_the_core(text: str, found: float, tmp_path: Path) -> None:
    (tmp_path / "schedstat").write_text(text)
    assert waited_s(tmp_path / "schedstat") == found
    assert waited_s(tmp_path / "none") == 0.0

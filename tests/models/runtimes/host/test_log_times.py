"""The many ways in which programs write the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from models.runtimes.host.log_times import time_of

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("2026-01-02 03:04:05,678 INFO roundhouse.engine: ready", "2026-01-02 03:04:05"),
        ("INFO 01-02 03:04:05 [core.py:12] Initializing a V1 LLM engine", "2026-01-02 03:04:05"),
        ("(EngineCore_0 pid=1) WARNING 01-02 03:04:05 [core.py:12] slow", "2026-01-02 03:04:05"),
        ("INFO 12-31 23:59:59 [core.py:12] last year", "2025-12-31 23:59:59"),
        ("7:M 02 Jan 2026 03:04:05.678 * Ready to accept connections", "2026-01-02 03:04:05"),
    ],
)
def test_without_a_zone_it_is_this_machines_time(line, at):
    found = time_of(line, NOW)
    assert found is not None
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found)) == at


@pytest.mark.parametrize(
    "line", ['{"event": "listening", "timestamp": "2026-01-02T03:04:05.678Z"}', "2026-01-02T04:04:05.678+01:00 x"]
)
def test_with_a_zone_it_is_that_zones(line):
    assert time_of(line, NOW) == pytest.approx(datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC).timestamp())


@pytest.mark.parametrize("line", ["", "no time", "2026-99-99 03:04:05,678 x", "INFO 99-99 03:04:05 [a.py:1] x"])
def test_what_is_no_time_is_none(line):
    assert time_of(line, NOW) is None

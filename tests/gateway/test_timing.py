"""The Server-Timing header of an answer."""

from __future__ import annotations

import re

from gateway.exchange import Exchange
from gateway.timing import server_timing

METRIC = re.compile(rb"([a-z-]+);dur=([0-9.]+)")


def told(**facts: float | bool) -> dict[str, float]:
    exchange = Exchange("req_1", "POST", "/v1/chat/completions", started_s=0.0)
    for name, value in facts.items():
        setattr(exchange, name, value)
    line = server_timing(exchange)
    assert re.fullmatch(rb"server-timing: (?:[a-z-]+;dur=[0-9.]+(?:, |\r\n$))+", line)
    return {name.decode(): float(ms) for name, ms in METRIC.findall(line)}


def test_all_stages_are_told_in_milliseconds_in_their_order() -> None:
    times = told(auth_s=0.0001, held=True, queue_s=0.25, wake_s=1.5, connect_s=0.002, engine_s=0.0305)
    assert times == {"auth": 0.1, "queue": 250.0, "wake": 1500.0, "connect": 2.0, "engine-ttfb": 30.5}
    assert list(times) == ["auth", "queue", "wake", "connect", "engine-ttfb"]


def test_stages_that_took_no_time_are_told_as_well() -> None:
    assert told() == {"auth": 0, "queue": 0, "wake": 0, "connect": 0, "engine-ttfb": 0}
    assert told(auth_s=0.00002, engine_s=1)["engine-ttfb"] == 1000


def test_a_new_connection_is_told_of_a_request_that_did_not_wait() -> None:
    assert told(connect_s=0.004)["connect"] == 4

"""Traces go through: in as a caller sends them, and on to the engine."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Exchange
from gateway.spans import stages
from gateway.tracing import Tracer

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{SPAN}-01".encode()
MALFORMED = [
    b"", b"00", b"00-", GIVEN[:-1], GIVEN + b"0", GIVEN + b"-", GIVEN.upper(), b" " + GIVEN, b"ff" + GIVEN[2:],
    f"00-{'0' * 32}-{SPAN}-01".encode(), f"00-{TRACE}-{'0' * 16}-01".encode(), GIVEN.replace(b"-", b"_"),
    f"00-{TRACE}-{SPAN}-0g".encode(), f"00-{TRACE}-{SPAN}-01-more".encode(), f"01-{TRACE}-{SPAN}-01more".encode(),
    GIVEN + b"\n", b"\xff" * 55,
]  # fmt: skip


class Kept:
    """Exporter of a test."""

    def __init__(self) -> None:
        self.spans: list[tuple[Exchange, float, str]] = []
        self.running = False

    def add(self, exchange: Exchange, duration_s: float, parent: str) -> None:
        self.spans.append((exchange, duration_s, parent))

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


def rig(sample_ratio: float = 1.0) -> tuple[Tracer, Kept]:
    kept = Kept()
    return Tracer(kept, sample_ratio, random.Random(7).getrandbits), kept


def exchange(traceparent: str | None, **facts: Any) -> Exchange:
    made = Exchange(
        "req_1", "POST", "/v1/chat/completions", started_s=100.0, endpoint="chat.completions", model="m", status=200
    )
    made.traceparent = traceparent
    for name, value in facts.items():
        setattr(made, name, value)
    return made


# -- W3C -------------------------------------------------------------------------------------------------------------


def test_switched_off_it_passes_on_what_comes_and_makes_nothing() -> None:
    tracer = Tracer()
    assert not tracer.on
    assert tracer.traceparent(None) is None
    assert tracer.traceparent(GIVEN) == GIVEN.decode()
    tracer.start()
    tracer.observe(exchange(GIVEN.decode()), 1.0)
    tracer.stop()


@pytest.mark.parametrize("given", MALFORMED)
def test_what_is_malformed_is_ignored(given: bytes) -> None:
    assert Tracer().traceparent(given) is None
    ours = rig()[0].traceparent(given)
    assert ours is not None
    assert TRACE not in ours


@given(st.binary(max_size=80))
def test_no_bytes_at_all_break_it(given: bytes) -> None:
    passed = Tracer().traceparent(given)
    assert passed is None or passed.encode() == given
    assert rig()[0].traceparent(given)


def test_a_request_goes_on_in_its_callers_trace_under_a_span_of_its_own() -> None:
    ours = rig()[0].traceparent(GIVEN)
    assert ours is not None
    version, trace, span, flags = ours.split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != SPAN
    assert Tracer().traceparent(ours.encode()) == ours


def test_later_versions_are_read_as_far_as_they_are_known() -> None:
    tracer, _ = rig()
    for later in (b"01" + GIVEN[2:], b"cc" + GIVEN[2:] + b"-what-the-future-brings"):
        ours = tracer.traceparent(later)
        assert ours is not None
        assert ours.startswith(f"00-{TRACE}-"), "answered in the version that is spoken here"


def test_without_a_callers_trace_a_new_one_begins() -> None:
    tracer, kept = rig()
    first, second = tracer.traceparent(None), tracer.traceparent(None)
    assert first is not None
    assert second is not None
    assert first.split("-")[1] != second.split("-")[1]
    tracer.observe(exchange(first), 1.0)
    assert [parent for _, _, parent in kept.spans] == [""]


def test_whether_it_is_sampled_is_for_whoever_began() -> None:
    tracer, kept = rig()
    ours = tracer.traceparent(GIVEN[:-2] + b"00")
    assert ours is not None
    assert ours.endswith("-00")
    tracer.observe(exchange(ours), 1.0)
    assert kept.spans == []
    never, kept = rig(sample_ratio=0.0)
    assert (never.traceparent(GIVEN) or "").endswith("-01")
    assert (never.traceparent(None) or "").endswith("-00")


def test_a_part_of_new_traces_is_sampled() -> None:
    tracer, _ = rig(sample_ratio=0.25)
    sampled = sum((tracer.traceparent(None) or "").endswith("-01") for _ in range(2000))
    assert 400 < sampled < 600


def test_the_callers_span_is_remembered_until_the_end_and_no_longer() -> None:
    tracer, kept = rig()
    ours = tracer.traceparent(GIVEN)
    tracer.observe(exchange(ours), 2.0)
    assert [(duration_s, parent) for _, duration_s, parent in kept.spans] == [(2.0, SPAN)]
    assert tracer._parents == {}
    tracer.observe(exchange(None), 1.0)  # one that never got so far
    assert len(kept.spans) == 1


# -- spans -----------------------------------------------------------------------------------------------------------


def test_stages_follow_each_other() -> None:
    went = exchange(None, auth_s=0.5, queue_s=1.0, wake_s=0.0, connect_s=0.25, engine_s=2.0)
    assert list(stages(went, 10.0)) == [
        ("auth", 0.0, 0.5), ("queue", 0.5, 1.5), ("connect", 1.5, 1.75), ("engine-ttfb", 1.75, 3.75),
        ("answer", 3.75, 10.0),
    ]  # fmt: skip
    assert list(stages(exchange(None), 1.0)) == []

"""The time to the first token, taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.report.parts import GATEWAY, PARTS, column, falls, parts_ms, total_ms, whole
from tests.loadtests.outcome.made import row
from tests.loadtests.report.made import TIMING, answered

ms = st.floats(0, 5000)


def test_each_part_is_what_the_answer_said_and_the_caller_saw() -> None:
    made = answered(1000.0, 12.0, through=True, late_ms=0.4)
    parts = parts_ms(made)
    assert parts is not None
    assert tuple(parts) == PARTS
    assert [parts[name] for name in GATEWAY] == [TIMING[name] for name in GATEWAY]
    assert parts["late"] == pytest.approx(0.4)
    assert parts["engine"] == pytest.approx(9.0 + 0.7)  # and from the head to the first token
    assert parts["network"] == pytest.approx(12.0 - 0.7 - 0.4 - 9.3)


@given(ms, ms, st.dictionaries(st.sampled_from([*GATEWAY, "engine-ttfb"]), ms))
def test_they_add_up_to_the_time_to_the_first_token(ttft: float, late: float, told: dict[str, float]) -> None:
    made = row(10.0, ttft_ms=ttft, late_ms=late, e2e_ms=ttft + 1, timing_ms=told)
    parts = parts_ms(made)
    assert parts is not None
    assert sum(parts.values()) == pytest.approx(total_ms(made), abs=1e-6)


def test_what_is_not_streamed_is_taken_apart_to_its_end() -> None:
    made = row(0.0, ttft_ms=None, e2e_ms=30.0, first_byte_us=29_000, timing_ms={"engine-ttfb": 20.0}, stream=False)
    parts = parts_ms(made)
    assert parts is not None
    assert parts["engine"] == pytest.approx(21.0)
    assert parts["network"] == pytest.approx(9.0)


def test_a_server_that_tells_nothing_is_all_engine() -> None:
    assert parts_ms(row(0.0, ttft_ms=50.0, late_ms=1.0)) == {"late": 1.0, "engine": 49.0}


def test_what_failed_has_no_parts() -> None:
    assert parts_ms(row(error="timeout")) is None
    assert parts_ms(row(ttft_ms=None)) is None
    assert column([row(error="timeout"), row(ttft_ms=5.0)], lambda parts: parts["engine"]) == [[], [5.0]]


def test_the_typical_ones_and_the_slow_ones() -> None:
    made = [answered(10.0 * place, float(place), through=True) for place in range(10, 110)]
    typical, slow = falls(made)
    assert (typical.requests, slow.requests) == (20, 5)
    assert typical.total_ms == pytest.approx(59.5)
    assert slow.total_ms == pytest.approx(107.0)
    assert whole(made).total_ms == pytest.approx(59.5)


def test_tags_have_a_fall_each_cheapest_first() -> None:
    made = [
        answered(10.0 * place, 5.0 if place % 2 else 90.0, tag="gpu" if place % 2 else "disk") for place in range(8)
    ]
    assert [(fall.title, fall.requests) for fall in falls(made)] == [("gpu", 4), ("disk", 4)]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 7, 10])
def test_few_requests_have_a_typical_one_at_most(count: int) -> None:
    found = falls([answered(10.0 * place, 20.0) for place in range(count)])
    assert [fall.requests for fall in found] == ([] if not count else [min(count, 5)])

"""Where a ramp's knee is."""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import following
from loadtests.outcome.knee import knee
from loadtests.outcome.slo import Good
from loadtests.outcome.summary import summary
from tests.loadtests.outcome.made import row


def steps(*ttft_ms: float, good: Good | None = None, failing: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    phases = following(*((f"{number}/s", 10.0, 1.0) for number in range(len(ttft_ms))))
    rows = [
        row(ttft_ms=value, phase=number, error="x" if number in failing else "")
        for number, value in enumerate(ttft_ms)
        for _ in range(10)
    ]
    found: list[dict[str, Any]] = summary(rows, phases, 10.0, good or Good())["phases"]
    return found


def test_the_knee_is_the_last_step_before_answers_wait_for_each_other() -> None:
    found = knee(steps(50, 55, 90, 400, 800))
    assert found is not None
    assert (found["step"], found["next_step"]) == ("2/s", "3/s")
    assert found["because"] == "the median is 8.0 times the first step's"


def test_a_step_that_was_slow_for_another_reason_is_not_the_knee() -> None:
    found = knee(steps(50, 55, 400, 60, 800))
    assert found is not None
    assert (found["step"], found["next_step"]) == ("3/s", "4/s")


def test_one_slow_moment_of_a_step_is_no_knee() -> None:
    phases = following(("1/s", 10.0, 1.0), ("2/s", 10.0, 2.0))
    rows = [row(phase=number) for number in (0, 1) for _ in range(9)] + [row(ttft_ms=900.0, e2e_ms=950.0, phase=1)]
    found = knee(summary(rows, phases, 20.0, Good())["phases"])
    assert found is not None
    assert found["because"] == "the ramp ended before a knee"


def test_what_a_service_answers_a_second_does_not_grow_with_what_it_is_asked() -> None:
    """Twice as much as it can answer: the second step's 20 answers take until 30 s, at one a second."""
    phases = following(("1/s", 10.0, 1.0), ("2/s", 10.0, 2.0))
    rows = [row(1000.0 * at) for at in range(10)]
    rows += [row(10_000.0 + 500.0 * at, ttft_ms=500.0 * at, e2e_ms=500.0 * at + 1000.0, phase=1) for at in range(20)]
    steady, flooded = summary(rows, phases, 20.0, Good())["phases"]
    assert (steady["requests_per_s"], flooded["requests_per_s"]) == (1.0, 1.0)
    assert (steady["requests"], flooded["requests"]) == (10, 20)


def test_failures_are_a_knee_too() -> None:
    found = knee(steps(50, 50, 50, failing=(2,)))
    assert found is not None
    assert (found["step"], found["because"]) == ("1/s", "100.0% of the requests fail")


def test_goals_for_requests_decide_where_there_are_some() -> None:
    found = knee(steps(50, 90, 110, good=Good(ttft_ms=100)), 0.99)
    assert found is not None
    assert (found["step"], found["because"]) == ("1/s", "0.0% of the requests are good")


def test_a_ramp_may_have_none() -> None:
    found = knee(steps(50, 50))
    assert found is not None
    assert found["next_step"] is None
    assert knee(steps(500, 500, good=Good(ttft_ms=100)), 0.99) is None

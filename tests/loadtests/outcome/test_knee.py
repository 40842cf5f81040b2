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
    found = knee(steps(50, 55, 90, 400, 60))
    assert found is not None
    assert (found["step"], found["next_step"], found["because"]) == ("2/s", "3/s", "p99 is 8.0 times the first step's")


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
    assert knee(steps(500, 50, good=Good(ttft_ms=100)), 0.99) is None

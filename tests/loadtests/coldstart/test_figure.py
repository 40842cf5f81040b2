"""A figure is a median with its spread; what is missing is said, not made up."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from loadtests.coldstart.figure import Figure, ratio_line


def test_a_line_has_the_median_the_spread_and_the_goal() -> None:
    figure = Figure("stopped model to first token", "llama", goal=0.35, values=[0.3, 0.9, 0.31])
    assert figure.line() == (
        "llama: stopped model to first token: median 0.310 s (0.300 to 0.900, 3 passes), goal at most 0.350 s: met"
    )


def test_a_missed_goal_is_called_missed() -> None:
    assert Figure("up", "llama", goal=25, values=[30.0]).line() == (
        "llama: up: 30.0 s (1 pass), goal at most 25.0 s: missed"
    )


def test_more_can_be_better_than_less() -> None:
    figure = Figure("decode", "llama", goal=0.95, unit="x", wanted="at least", values=[0.9, 0.97, 1.0])
    assert figure.line().endswith("median 0.970 x (0.900 to 1.000, 3 passes), goal at least 0.950 x: met")
    assert Figure("decode", "llama", goal=0.95, wanted="at least", values=[0.9]).met is False


def test_what_was_not_measured_says_why() -> None:
    figure = Figure("asleep", "llama", goal=1, problem="409 busy: cannot sleep")
    assert figure.line() == "llama: asleep: not measured (409 busy: cannot sleep)"
    assert figure.met is None
    assert figure.document()["median"] is None


def test_passes_that_ended_early_are_shown_as_incomplete() -> None:
    figure = Figure("asleep", "llama", values=[0.1], problem="it died")
    assert figure.line().endswith("(1 pass); incomplete: it died")


def test_the_uncounted_pass_is_shown_but_not_in_the_median() -> None:
    document = Figure("stopped", "llama", values=[0.2, 0.4], beside={"uncounted first pass": 9.0}).document()
    assert document["median"] == 0.3
    assert document["passes"] == [0.2, 0.4]
    assert document["beside"] == {"uncounted first pass": 9.0}


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0, 1000))
def test_the_median_lies_within_the_spread_and_decides_about_the_goal(values: list[float], goal: float) -> None:
    figure = Figure("x", "m", goal=goal, values=values)
    document = json.loads(json.dumps(figure.document()))
    assert document["min"] <= document["median"] <= document["max"]
    assert document["met"] == (figure.median <= goal)


def test_the_ratio_compares_medians_of_the_same_run() -> None:
    ours, stock = Figure("stopped", "llama", values=[0.5]), Figure("stock", "llama", values=[10.0, 12.0, 30.0])
    assert ratio_line(ours, stock) == "llama: a stock vLLM server takes 24 times as long as a stopped model"
    assert ratio_line(ours, Figure("stock", "llama")) is None
    assert ratio_line(Figure("stopped", "llama"), stock) is None

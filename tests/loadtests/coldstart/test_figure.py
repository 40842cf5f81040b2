"""A figure is a median with its spread; what is missing is said, not made up."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from loadtests.coldstart.figure import Figure, ratio_line


def test_a_line_has_the_median_the_spread_and_the_goal() -> None:
    figure = Figure("stopped model to first token", "llama", goal_s=0.35, seconds=[0.3, 0.9, 0.31])
    assert figure.line() == (
        "llama: stopped model to first token: median 0.310 s (0.300 to 0.900, 3 passes), goal 0.350 s: met"
    )


def test_a_missed_goal_is_called_missed() -> None:
    assert Figure("up", "llama", goal_s=25, seconds=[30.0]).line() == (
        "llama: up: median 30.000 s (1 pass), goal 25.000 s: missed"
    )


def test_what_was_not_measured_says_why() -> None:
    figure = Figure("asleep", "llama", goal_s=1, problem="409 busy: cannot sleep")
    assert figure.line() == "llama: asleep: not measured (409 busy: cannot sleep)"
    assert figure.met is None
    assert figure.document()["median"] is None


def test_passes_that_ended_early_are_shown_as_incomplete() -> None:
    figure = Figure("asleep", "llama", seconds=[0.1], problem="it died")
    assert figure.line().endswith("(1 pass); incomplete: it died")


def test_the_uncounted_pass_is_shown_but_not_in_the_median() -> None:
    document = Figure("stopped", "llama", seconds=[0.2, 0.4], uncounted_s=9.0).document()
    assert document["median"] == 0.3
    assert document["passes"] == [0.2, 0.4]
    assert document["uncounted_first_pass"] == 9.0


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0, 1000))
def test_the_median_lies_within_the_spread_and_decides_about_the_goal(seconds: list[float], goal_s: float) -> None:
    figure = Figure("x", "m", goal_s=goal_s, seconds=seconds)
    document = json.loads(json.dumps(figure.document()))
    assert document["min"] <= document["median"] <= document["max"]
    assert document["met"] == (figure.median_s <= goal_s)


def test_the_ratio_compares_medians_of_the_same_run() -> None:
    ours, stock = Figure("stopped", "llama", seconds=[0.5]), Figure("stock", "llama", seconds=[10.0, 12.0, 30.0])
    assert ratio_line(ours, stock) == "llama: a stock vLLM server takes 24 times as long as a stopped model"
    assert ratio_line(ours, Figure("stock", "llama")) is None
    assert ratio_line(Figure("stopped", "llama"), stock) is None

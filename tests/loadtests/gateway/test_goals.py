"""The goals are judged by medians of what was measured side by side."""

from __future__ import annotations

import pytest

from loadtests.gateway.comparison import DIRECT
from loadtests.gateway.goals import added, figures, median_of, ratios
from loadtests.gateway.ours import NAME
from loadtests.gateway.passes import Measure, Pass
from loadtests.policies.report import Figure


def passes(measure: Measure, **values: list[float]) -> dict[str, list[Pass]]:
    return {name.replace("_", "-"): [Pass(figures={measure: value}) for value in each] for name, each in values.items()}


def named(found: list[Figure], goal: str, text: str) -> Figure:
    (one,) = [figure for figure in found if figure.goal == goal and text in f"{figure.item} {figure.name}"]
    return one


def test_a_ratio_is_of_one_pass_and_the_median_of_those() -> None:
    """The machine was three times as slow in the second pass: the ratio does not see it."""
    found = passes(Measure.RPS_16, **{NAME: [70.0, 20.0, 80.0]}, nginx=[100.0, 30.0, 100.0])
    assert ratios(found, NAME, "nginx", Measure.RPS_16) == [0.7, 20 / 30, 0.8]
    figure = named(figures(found), "G1", "nginx")
    assert (figure.value, figure.limit, figure.met) == (0.7, 0.65, True)
    assert figure.others == {"roundhouse /s": 70.0, "nginx /s": 100.0}
    assert figure.details["passes"] == [0.7, 20 / 30, 0.8]


def test_routers_are_to_be_twice_as_slow() -> None:
    found = passes(Measure.VARIED_64, **{NAME: [30.0]}, vllm_router=[20.0], sglang_router=[10.0])
    slow, fast = named(figures(found), "G1", "sglang-router"), named(figures(found), "G1", "vllm-router")
    assert (slow.value, slow.met) == (3.0, True)
    assert (fast.value, fast.met) == (1.5, False)
    assert "varied heads" in fast.item


def test_latency_is_what_the_gateway_adds() -> None:
    found = passes(Measure.P50_1, direct=[16.0, 18.0], **{NAME: [116.0, 218.0]}, nginx=[100.0, 120.0])
    assert added(found, NAME, Measure.P50_1) == [100.0, 200.0]
    figure = named(figures(found), "G2", "p50")
    assert (figure.value, figure.limit, figure.unit, figure.met) == (150.0, 130.0, "us", False)
    assert figure.others == {"nginx": 93.0}


@pytest.mark.parametrize(
    ("measure", "value", "met"),
    [
        (Measure.BURST_EVENTS, 119_999.0, False),
        (Measure.BURST_EVENTS, 120_000.0, True),
        (Measure.LEAVE_MS, 20.0, True),
        (Measure.LEAVE_MS, 21.0, False),
    ],
)
def test_streams_are_judged_by_themselves(measure: Measure, value: float, met: bool) -> None:
    (figure,) = figures(passes(measure, **{NAME: [value]}, direct=[1.0]))
    assert (figure.goal, figure.value, figure.met, figure.others) == ("G3", value, met, {DIRECT: 1.0})


def test_the_first_byte_is_judged_over_direct() -> None:
    (figure,) = figures(passes(Measure.FIRST_BYTE, **{NAME: [250.0]}, direct=[40.0]))
    assert (figure.goal, figure.value, figure.limit, figure.met) == ("G3", 210.0, 200.0, False)


def test_processor_time_is_told_and_not_judged() -> None:
    (figure,) = figures(passes(Measure.CPU_US, **{NAME: [20.0, 22.0]}, nginx=[10.0]))
    assert (figure.goal, figure.value, figure.met, figure.others) == ("G1", 21.0, None, {"nginx": 10.0})


def test_what_was_not_measured_has_no_figure() -> None:
    assert figures({}) == []
    assert figures(passes(Measure.RPS_16, nginx=[1.0])) == []
    assert median_of({}, NAME, Measure.RPS_16) is None


def test_a_pass_that_one_of_them_lacks_is_left_out() -> None:
    found = passes(Measure.RPS_16, **{NAME: [1.0, 2.0]}, nginx=[4.0])
    assert ratios(found, NAME, "nginx", Measure.RPS_16) == [0.25]

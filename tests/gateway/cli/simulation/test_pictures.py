"""The report's pictures: drawn from results, and at home on light and dark pages."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gateway.cli.simulation import charts
from gateway.cli.simulation.drawing import INK
from gateway.cli.simulation.report import report
from gateway.cli.simulation.runs import Run
from gateway.cli.simulation.shelves import picture, shelves
from gateway.cli.simulation.sweep import Variant
from packers.decide import Policies
from packers.sim import SimOptions, SimResult, Trace, cluster, simulate
from packers.types import Footprint, Model, ModelId, Pool, PoolId

GIB = 2**30


@pytest.fixture(scope="module")
def result() -> SimResult:
    """Three models of which two fit the GPU, called in turn."""
    models = [Model(ModelId(name), Footprint(30 * GIB, 0, 0, host_bytes=30 * GIB)) for name in ("a", "b", "c<&>")]
    times = np.arange(0.0, 600.0, 20.0)
    trace = Trace.of([model.id for model in models], times, np.arange(times.size) % 3, np.full(times.size, 2.0))
    world = cluster(
        nodes=1,
        gpus_per_node=1,
        memory_bytes=80 * GIB,
        host_bytes=100 * GIB,
        models=models,
        pool=Pool(PoolId("rented"), price_per_gpu_hour=3.0),
    )
    return simulate(trace, world, Policies(), SimOptions(seed=1))


@pytest.fixture(scope="module")
def runs(result: SimResult) -> list[Run]:
    better = replace(result, delayed=1, hours=replace(result.hours, occupied=0.01))
    return [
        Run(Variant((("policy", "lru"), ("ttl", "60"))), Policies(), result, 0.5),
        Run(Variant((("policy", "<ours>"),)), Policies(), better, 0.5),
    ]


def drawn(svg: str) -> str:
    """Checks that it is a picture that adapts to its page."""
    ElementTree.fromstring(svg)
    assert INK not in svg
    assert "currentColor" in svg
    assert not re.search(r"fill: ?#(fff|ffffff)", svg), "the page shows through"
    assert 'width="100%"' in svg
    return svg


@pytest.mark.parametrize("draw", [charts.delayed, charts.waits, charts.hours, charts.pareto])
def test_every_picture_names_every_run_and_says_that_it_is_simulated(
    draw: Callable[[list[Run]], str], runs: list[Run]
) -> None:
    svg = drawn(draw(runs))
    assert "lru ttl=60" in svg
    assert "&lt;ours&gt;" in svg
    assert "(simulated)" in svg


def test_the_same_runs_give_the_same_picture(runs: list[Run]) -> None:
    assert charts.pareto(runs) == charts.pareto(runs)


def test_the_frontier_holds_what_nothing_beats() -> None:
    points = [(1.0, 9.0), (2.0, 5.0), (2.0, 6.0), (3.0, 5.0), (4.0, 1.0), (4.0, 1.0)]
    assert charts.frontier(points) == [0, 1, 4, 5]
    assert charts.frontier([]) == []


def test_shelves_add_up_to_what_is_held_and_never_to_more_than_there_is(result: SimResult) -> None:
    found = shelves(result)
    (held,) = found.held.values()
    total = np.sum(list(held.values()), axis=0)
    assert total.max() <= 80 * GIB
    assert total.max() == 60 * GIB, "two of them fit"
    last = {point.replica: point.gpu_bytes for point in result.memory}
    assert total[-1] == sum(last.values())


def test_memory_is_drawn_by_model_and_gpu(result: SimResult) -> None:
    svg = drawn(picture(result, "Memory (simulated)") or "")
    for words in ("c&lt;&amp;&gt;", "node-000/", "minutes since the beginning"):
        assert words in svg


def test_without_a_memory_line_there_is_no_picture(result: SimResult) -> None:
    assert picture(replace(result, memory=()), "x") is None


def test_the_report_is_one_file_that_needs_nothing_else(runs: list[Run]) -> None:
    about = {"trace": "<trace>", "requests": 30, "models": 3, "duration_s": 600.0, "hardware": "1 node"}
    page = report(runs, about)
    assert not re.search(r"""(src|href)=["']?http|<script|@import|url\(http""", page)
    assert page.count("<svg") == 4 + 2, "four comparisons, memory of two runs"
    assert "prefers-color-scheme: dark" in page
    assert "<title>Roundhouse: simulated, &lt;trace&gt;</title>" in page
    assert "<ours>" not in page
    assert "c<&>" not in page
    assert runs[0].result.decisions.last[-1].action in page


def test_a_single_run_has_nothing_to_be_compared_with(runs: list[Run]) -> None:
    about = {"trace": "t", "requests": 30, "models": 3, "duration_s": 600.0, "hardware": "1 node"}
    assert "Delay against GPU-hours" not in report(runs[:1], about)

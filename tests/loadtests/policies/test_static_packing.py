"""The static part of the packing benchmark: instances from seeds, its baseline, its lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtests.policies.options import Options
from loadtests.policies.packing import static, zoo
from loadtests.policies.packing.first_fit import first_fit_decreasing, nodes_first_fit_decreasing
from loadtests.policies.report import Report
from packers.static.problem import Item
from packers.types import ModelId


def test_a_zoo_depends_on_its_seed_alone() -> None:
    one, same, other = (zoo.zoo(200, 24, seed, few_sizes=True).tolist() for seed in (1, 1, 2))
    assert one == same != other
    assert 0 < min(one) <= max(one) <= zoo.units(24)
    assert len(set(one)) < len(set(zoo.zoo(200, 24, 1, few_sizes=False).tolist()))


def test_triplets_fill_their_bins_exactly() -> None:
    sizes = zoo.triplets(50, 1000, seed=1)
    assert len(sizes) == 150
    assert sizes.sum() == 50 * 1000
    assert (4 * sizes > 1000).all()
    assert (2 * sizes < 1000).all()
    assert all(int(sizes[at : at + 3].sum()) == 1000 for at in range(0, 150, 3))


@pytest.mark.parametrize("how", ["light", "steps", "uniform"])
def test_compute_is_a_share_of_a_gpu(how: str) -> None:
    milli = zoo.compute(500, 1, how)
    assert 0 < milli.min() <= milli.max() <= 1000


def test_groups_fit_their_gpus_and_nodes() -> None:
    items = zoo.groups(300, 24, seed=1)
    assert sum(item.replicas for item in items) == 300
    assert {item.gpus for item in items} <= {1, 2, 4, 8}
    assert all(item.memory_bytes <= 24 * zoo.GIB for item in items)


def test_first_fit_decreasing() -> None:
    assert first_fit_decreasing(np.array([[4], [4], [4], [5], [6], [7]]), np.array([15])) == 3
    assert first_fit_decreasing(np.array([[50, 900], [50, 200], [40, 100]]), np.array([100, 1000])) == 2


def test_first_fit_decreasing_of_groups() -> None:
    large = Item(ModelId("large"), 60, 2, gpus=2)
    apart = Item(ModelId("apart"), 10, 3, apart_from=frozenset({ModelId("apart")}))
    assert nodes_first_fit_decreasing([large], 100, 2) == 2
    assert nodes_first_fit_decreasing([large, apart], 100, 2) == 3


def test_a_line_for_each_goal_and_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ("P3/24gib-few-sizes-1000", "P4/triplets-1000", "P5/141gib-groups")
    report = Report("packing")
    static.run(Options(tmp_path, (5,), wanted, tmp_path, jobs=1), report)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "P3 24gib-few-sizes-1000",
        "P3 24gib-few-sizes-1000",
        "P4 triplets-1000",
        "P4 triplets-1000",
        "P5 141gib-groups",
    ]
    over = [figure for figure in report.figures if figure.name == "over the bound"]
    assert all(figure.details["seeds"] == [5] for figure in over)
    assert all(figure.value <= figure.others["FFD"] for figure in over)


def test_what_is_not_asked_for_is_not_run(tmp_path: Path) -> None:
    report = Report("packing")
    static.run(Options(tmp_path, None, ("P1",), tmp_path, jobs=1), report)
    assert report.figures == []

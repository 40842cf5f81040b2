"""A gateway never shares its core with those who measure it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loadtests.gateway.cores import Cores, children_on, most_workers, one_core, spread
from loadtests.gateway.problems import CannotMeasure


def test_one_core_each() -> None:
    assert one_core({5, 2, 7}) == Cores((2,), (5,), (5,))


def test_one_core_is_too_few() -> None:
    with pytest.raises(CannotMeasure, match="at least two cores"):
        one_core({0})


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (8, 4), (64, 4)])
def test_workers_get_half_of_the_cores_and_never_more_than_four(cores: int, workers: int) -> None:
    assert most_workers(range(cores)) == workers


def test_what_workers_leave_is_for_the_others() -> None:
    assert spread(range(6), 2) == Cores((0, 1), (2, 3, 4, 5), (2, 3, 4, 5))
    with pytest.raises(CannotMeasure, match="3 workers need 6 cores"):
        spread(range(5), 3)


def test_children_are_put_on_their_cores_and_the_parent_is_not() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with children_on([core]):
        asked = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert told.strip() == f"[{core}]"
    assert os.sched_getaffinity(0) == before

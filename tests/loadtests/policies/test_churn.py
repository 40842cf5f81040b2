"""The churn benchmark: its bound is a bound, its cluster keeps the books, and a run is the same every time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.policies.options import Options
from loadtests.policies.packing import churn
from loadtests.policies.packing.churn import Case, play, run
from loadtests.policies.packing.churn_world import KV, UNIT_BYTES, Cluster, Mix, draw, l2_bound
from loadtests.policies.report import Report
from packers.types import Footprint, GpuId, ModelId

SMALL = Mix("small", "kv-by-size", models=30, changes=3, epochs=12, warm_up=2)


def fewest_bins(sizes: list[int], capacity: int) -> int:
    """Brute force: every way to put them into as many bins as there are sizes."""
    best = len(sizes)
    for chosen in product(range(len(sizes)), repeat=len(sizes) - 1):
        places = (0, *chosen)
        loads = [0] * len(sizes)
        for size, place in zip(sizes, places, strict=True):
            loads[place] += size
        if max(loads) <= capacity:
            best = min(best, len(set(places)))
    return best


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_no_packing_beats_the_bound(sizes):
    bound = l2_bound(np.array(sizes, np.int64), 20)
    assert -(-sum(sizes) // 20) <= bound <= fewest_bins(sizes, 20)


def test_the_bound_sees_that_two_large_ones_share_no_gpu():
    assert l2_bound(np.array([11, 11, 11, 11], np.int64), 20) == 4
    assert l2_bound(np.array([11, 11, 10, 10, 10], np.int64), 20) == 4
    assert l2_bound(np.array([12, 9, 9], np.int64), 20) == 2


@pytest.mark.parametrize("kv", sorted(KV))
def test_every_model_of_the_zoo_fits_on_a_gpu_in_whole_units(kv):
    rng = np.random.default_rng(1)
    mix = Mix("m", kv, gpu_bytes=24_000_000_000)
    for _ in range(200):
        footprint = draw(rng, mix)
        assert footprint.gpu_bytes % UNIT_BYTES == 0
        assert UNIT_BYTES <= footprint.gpu_bytes <= mix.gpu_bytes


def test_the_cluster_opens_gpus_as_needed_and_closes_them():
    cluster = Cluster(SMALL, "ours", 8)
    large = Footprint(50_000_000_000, 0, 0)
    cluster.arrive(ModelId("a"), large)
    cluster.arrive(ModelId("b"), large)
    assert cluster.in_use() == 2
    cluster.depart(ModelId("a"))
    assert cluster.in_use() == 1
    cluster.arrive(ModelId("c"), Footprint(30_000_000_000, 0, 0))
    assert cluster.in_use() == 1
    assert cluster.state.index.now.gpu[GpuId("n000/1")] == 0


def test_a_run_is_the_same_every_time_and_other_seeds_differ():
    case = Case(SMALL, 1, 2)
    assert play(case) == play(case)
    assert play(case) != play(replace(case, seed=2))


def test_moves_are_counted_and_help():
    still = [play(Case(SMALL, seed, 0)) for seed in (1, 2, 3)]
    moving = [play(Case(SMALL, seed, 3)) for seed in (1, 2, 3)]
    assert all(one.moves == 0 for one in still)
    assert all(0 < one.moves <= 3 for one in moving)
    assert sum(one.over for one in moving) < sum(one.over for one in still)
    assert all(one.over >= 0 and one.repacked >= 0 for one in [*still, *moving]), "nothing beats the bound"


def test_the_report_has_a_line_for_each_number_of_moves_and_goals_for_two_of_them(monkeypatch, capsys):
    monkeypatch.setattr(churn, "MIXES", (SMALL,))
    report = Report("packing")
    run(Options(Path(), (1, 2), (), Path(), 1), report)
    assert [figure.limit for figure in report.figures] == [9.0, None, 2.5, None]
    assert all(figure.goal == "P6" and set(figure.others) >= {"best-fit, no moves"} for figure in report.figures)
    assert "at most 5 moves per 6 changes" in capsys.readouterr().out
    other = Report("packing")
    run(Options(Path(), (1,), ("P1",), Path(), 1), other)
    assert other.figures == []

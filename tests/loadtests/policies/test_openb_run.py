"""A run of the load-inflation experiment, small."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from loadtests.policies.packing.openb import Machine, read_machines, read_tasks
from loadtests.policies.packing.openb_run import (
    LOAD,
    POLICIES,
    NodeOrder,
    TieRule,
    Trial,
    build_cluster,
    inflate,
    run_trial,
    tie_rule,
    total_milli,
)
from packers.placement import Ask
from tests.loadtests.policies.openb_files import node_lines, task_lines, write


@pytest.fixture
def machines(tmp_path: Path) -> list[Machine]:
    return read_machines(write(tmp_path / "nodes.csv", node_lines()))


@pytest.fixture
def tasks(tmp_path: Path) -> list[Ask]:
    return read_tasks(write(tmp_path / "tasks.csv", task_lines()))


def asked(arrivals: list[Ask]) -> int:
    return sum(ask.gpus * ask.compute_milli for ask in arrivals)


def test_the_load_is_drawn_from_the_list_until_it_is_enough(tasks: list[Ask]) -> None:
    arrivals = inflate(tasks, 300_000, seed=7)
    assert LOAD * 300_000 - 1000 < asked(arrivals) <= LOAD * 300_000 + 3000
    assert set(arrivals) <= set(tasks)
    assert Counter(arrivals) >= Counter(tasks)
    assert arrivals[: len(tasks)] != tasks
    assert arrivals == inflate(tasks, 300_000, seed=7) != inflate(tasks, 300_000, seed=8)


def test_a_list_that_asks_for_too_much_is_cut(tasks: list[Ask]) -> None:
    arrivals = inflate(tasks, 20_000, seed=7)
    assert asked(arrivals) <= LOAD * 20_000 + 3000
    assert len(arrivals) < len(tasks)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_fills_the_cluster_and_not_more(policy: str, machines: list[Machine], tasks: list[Ask]) -> None:
    outcome = run_trial(Trial(policy, 42), machines, tasks)
    assert 70 < outcome.allocated_percent <= 100
    assert 0 < outcome.placed <= outcome.tasks
    assert outcome == run_trial(Trial(policy, 42), machines, tasks)


def test_ours_is_no_worse_than_first_fit_here_however_nodes_are_ordered(
    machines: list[Machine], tasks: list[Ask]
) -> None:
    seeds = range(3)
    first = sum(run_trial(Trial("first-fit", seed), machines, tasks).allocated_percent for seed in seeds)
    for order in NodeOrder:
        for ties in TieRule:
            trials = [Trial("ours", seed, order, ties, learns=True) for seed in seeds]
            assert sum(run_trial(trial, machines, tasks).allocated_percent for trial in trials) > first - 1.5


def test_nodes_are_named_in_the_order_asked_for(machines: list[Machine]) -> None:
    def models(order: NodeOrder) -> list[str]:
        return [gpus[0].name for gpus in build_cluster(machines, order, seed=1).gpus_of]

    assert models(NodeOrder.LISTED) == [machine.model for machine in machines]
    assert models(NodeOrder.REVERSED) == [machine.model for machine in machines][::-1]
    assert models(NodeOrder.SMALL_FIRST) == ["T4"] * 20 + ["A10"] * 20
    assert models(NodeOrder.LARGE_FIRST) == ["A10"] * 20 + ["T4"] * 20
    shuffled = models(NodeOrder.SHUFFLED)
    assert sorted(shuffled) == sorted(models(NodeOrder.LISTED)) != shuffled


def test_the_cluster_is_what_the_list_says(machines: list[Machine]) -> None:
    cluster = build_cluster(machines, NodeOrder.LISTED, seed=1)
    assert int(cluster.total_milli.sum()) == total_milli(machines) == 120_000
    assert cluster.total_cpu.sum() == sum(machine.cpu_milli for machine in machines)


def test_rules_for_ties_take_one_of_those_that_tie() -> None:
    import numpy as np

    rows = np.array([3, 5, 9])
    assert tie_rule(TieRule.FIRST, 1)(rows) == 3
    assert tie_rule(TieRule.LAST, 1)(rows) == 9
    drawn = tie_rule(TieRule.RANDOM, 1)
    assert {drawn(rows) for _ in range(50)} == {3, 5, 9}

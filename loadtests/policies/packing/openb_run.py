"""One load-inflation run on the openb trace, as in the experiments of the FGD paper (Weng et al., USENIX ATC 2023).

All tasks of a list in random order; then more, drawn from the list with replacement, until 1.3 times the cluster's GPUs
have been asked for. Each is placed or turned away at once, none ends. What counts is the share of the GPUs that is
allocated at the end. Nodes are compared by name; the authors put a random number in front of each, so is it done here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from loadtests.policies.packing.openb import GPU_MILLI, Machine
from packers.placement import RULES, Ask, Cluster, Mix, Placer, Rule, Spot
from packers.placement.best_fit import BestFitAsPublished
from packers.placement.cluster import Ints
from packers.placement.fgd import FgdAsPublished
from packers.placement.placer import first

LOAD = 1.3
POLICIES: dict[str, Rule] = {**RULES, **{rule.name: rule for rule in (BestFitAsPublished(), FgdAsPublished())}}


class NodeOrder(StrEnum):
    """How nodes are named, and so ordered."""

    SHUFFLED = "shuffled"
    LISTED = "as listed"
    REVERSED = "reversed"
    SMALL_FIRST = "small first"
    LARGE_FIRST = "large first"


class TieRule(StrEnum):
    """Which of equally good nodes is taken."""

    FIRST = "first"
    LAST = "last"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run. ``learns``: the policy learns the mix of tasks as they come; else it is given the whole list's."""

    policy: str
    seed: int
    order: NodeOrder = NodeOrder.SHUFFLED
    ties: TieRule = TieRule.FIRST
    learns: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """``allocated_percent`` of all GPUs; ``placed`` of ``tasks``."""

    allocated_percent: float
    placed: int
    tasks: int


def run_trial(trial: Trial, machines: Sequence[Machine], tasks: Sequence[Ask]) -> Outcome:
    cluster = build_cluster(machines, trial.order, trial.seed)
    mix = Mix() if trial.learns else Mix.of([replace(ask, host_bytes=0) for ask in tasks])
    placer = Placer(cluster, POLICIES[trial.policy], mix, tie_rule(trial.ties, trial.seed))
    arrivals = inflate(tasks, total_milli(machines), trial.seed)
    placed = 0
    for ask in arrivals:
        if trial.learns:
            mix.see(ask)
        spot = placer.place(ask)
        if isinstance(spot, Spot):
            cluster.take(spot, ask)
            placed += 1
    used = int((cluster.total_milli - cluster.free_milli).sum())
    return Outcome(100 * used / total_milli(machines), placed, len(arrivals))


def total_milli(machines: Sequence[Machine]) -> int:
    return sum(machine.gpus for machine in machines) * GPU_MILLI


def inflate(tasks: Sequence[Ask], capacity_milli: int, seed: int, load: float = LOAD) -> list[Ask]:
    """The tasks in random order, cut or drawn on until ``load`` times the capacity is asked for."""
    rng = random.Random(f"tasks {seed}")
    arrivals = list(tasks)
    rng.shuffle(arrivals)
    asked = sum(ask.gpus * ask.compute_milli for ask in arrivals)
    while asked > load * capacity_milli:
        gone = arrivals.pop(rng.randrange(len(arrivals)))
        asked -= gone.gpus * gone.compute_milli
    while True:
        ask = rng.choice(tasks)
        # As the authors' tuneUpPods: the first that would go over the limit with one of its GPUs ends it.
        if asked + ask.compute_milli > load * capacity_milli:
            return arrivals
        arrivals.append(ask)
        asked += ask.gpus * ask.compute_milli


def build_cluster(machines: Sequence[Machine], order: NodeOrder, seed: int) -> Cluster:
    listed = list(machines)
    match order:
        case NodeOrder.SHUFFLED:
            random.Random(f"nodes {seed}").shuffle(listed)
        case NodeOrder.REVERSED:
            listed.reverse()
        case NodeOrder.SMALL_FIRST | NodeOrder.LARGE_FIRST:
            listed.sort(key=lambda one: (one.gpus, one.cpu_milli), reverse=order is NodeOrder.LARGE_FIRST)
        case NodeOrder.LISTED:
            pass
    named = [(f"{place:06}-{machine.name}", machine) for place, machine in enumerate(listed)]
    gpus = [machine.gpu(name, index) for name, machine in named for index in range(machine.gpus)]
    return Cluster(gpus, [machine.node(name) for name, machine in named])


def tie_rule(rule: TieRule, seed: int) -> Callable[[Ints], int]:
    if rule is TieRule.FIRST:
        return first
    if rule is TieRule.LAST:
        return lambda rows: int(rows[-1])
    rng = np.random.default_rng(seed)
    return lambda rows: int(rng.choice(rows))

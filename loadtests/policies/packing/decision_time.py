"""P7: how long one placement decision takes on 1,000 and on 10,000 GPUs, in a cluster that is kept nearly full.

Tasks come one after the other; once the cluster is as full as it should be, a task leaves for every one that comes, so
that scores go stale all the time. The clock runs over what a scheduler waits for: telling the mix, choosing, taking.
It counts the CPU time of the deciding thread, which waits for nothing: what another process takes from it is not its
own. The time that passes is shown beside it. The baseline scores every node with numpy for every decision, as FGD's
definition reads, and remembers nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loadtests.figures import percentile
from loadtests.policies.options import Options
from loadtests.policies.packing.openb import NODES, Machine, read_machines, read_tasks, task_lists
from loadtests.policies.packing.openb_run import POLICIES, NodeOrder, build_cluster
from loadtests.policies.report import Figure, Report
from packers.placement import Ask, Cluster, Mix, Placer, Spot, Taken

LIMITS_MS = {1_000: 1.0, 10_000: 5.0}  # GPUs -> p99
DECISIONS = 8_000
WARM_UP = 2_000  # decisions that are not counted: every class of asks is scored for the first time some time
NAIVE_DECISIONS = 150
FULL = 0.9  # of the GPUs' compute, from where on one leaves for every one that comes
PASSES = 3
BASE_LIST = "default"
SEED = 42


@dataclass(frozen=True, slots=True)
class Times:
    p50_ms: float
    p99_ms: float
    passed_p99_ms: float


def run(options: Options, report: Report) -> None:
    """Raises BadData for files that are missing or wrong."""
    wanted = [gpus for gpus in LIMITS_MS if options.wants("P7", f"{gpus}-gpus")]
    if not wanted:
        return
    lists = task_lists(options)
    machines = read_machines(options.files(NODES)[0])
    tasks = read_tasks(lists[BASE_LIST if BASE_LIST in lists else min(lists)])
    for gpus in wanted:
        fleet = sized(machines, gpus)
        passes = [measure("ours", fleet, tasks, SEED + number, DECISIONS) for number in range(PASSES)]
        ours = sorted(passes, key=lambda times: times.p99_ms)[PASSES // 2]
        naive = measure("fgd-as-published", fleet, tasks, SEED, NAIVE_DECISIONS, remembers=False)
        others = {"p50": ours.p50_ms, "p99 of time passed": ours.passed_p99_ms}
        others |= {"naive numpy FGD p50": naive.p50_ms, "naive numpy FGD p99": naive.p99_ms}
        for policy in ("fgd", "best-fit"):
            others[f"{policy} p99"] = measure(policy, fleet, tasks, SEED, DECISIONS).p99_ms
        details = {"p99 by pass": [times.p99_ms for times in passes], "decisions per pass": DECISIONS}
        report.add(
            Figure(
                "P7",
                f"{gpus}-gpus",
                "CPU time of one decision, p99",
                ours.p99_ms,
                "ms",
                LIMITS_MS[gpus],
                True,
                others,
                details,
            )
        )


def sized(machines: Sequence[Machine], gpus: int) -> list[Machine]:
    """Nodes like those of the trace, in its proportions, with that many GPUs (one node may be cut)."""
    pool = list(machines)
    random.Random(SEED).shuffle(pool)
    found: list[Machine] = []
    left = gpus
    while left > 0:
        like = pool[len(found) % len(pool)]
        found.append(replace(like, name=f"{like.name}-{len(found)}", gpus=min(like.gpus, left)))
        left -= like.gpus
    return found


def measure(
    policy: str,
    machines: Sequence[Machine],
    tasks: Sequence[Ask],
    seed: int,
    decisions: int,
    remembers: bool = True,
    clock: Callable[[], float] = time.thread_time,
) -> Times:
    rng = random.Random(f"times {seed}")
    cluster = build_cluster(machines, NodeOrder.SHUFFLED, seed)
    running = _fill(cluster, tasks, rng)
    rule, mix = POLICIES[policy], Mix.of([replace(ask, host_bytes=0) for ask in tasks])
    placer = Placer(cluster, rule, mix)
    times_ms: list[float] = []
    passed_ms: list[float] = []
    for number in range(decisions + (WARM_UP if remembers else 0)):
        ask = rng.choice(tasks)
        passed_s, start_s = time.perf_counter(), clock()
        if not remembers:
            placer = Placer(cluster, rule, mix)
        mix.see(ask)
        spot = placer.place(ask)
        taken = cluster.take(spot, ask) if isinstance(spot, Spot) else None
        elapsed_ms = (clock() - start_s) * 1000
        if not remembers or number >= WARM_UP:
            times_ms.append(elapsed_ms)
            passed_ms.append((time.perf_counter() - passed_s) * 1000)
        if taken is not None:
            running.append(taken)
            _leave(cluster, running, rng)
    times_ms.sort()
    return Times(percentile(times_ms, 50), percentile(times_ms, 99), percentile(sorted(passed_ms), 99))


def _fill(cluster: Cluster, tasks: Sequence[Ask], rng: random.Random) -> list[Taken]:
    """By first-fit, which is fast, until the cluster is FULL."""
    placer = Placer(cluster, POLICIES["first-fit"])
    running: list[Taken] = []
    while _used(cluster) < FULL:
        ask = rng.choice(tasks)
        spot = placer.place(ask)
        if isinstance(spot, Spot):
            running.append(cluster.take(spot, ask))
    return running


def _leave(cluster: Cluster, running: list[Taken], rng: random.Random) -> None:
    while running and _used(cluster) > FULL:
        place = rng.randrange(len(running))
        running[place], running[-1] = running[-1], running[place]
        cluster.give_back(running.pop())


def _used(cluster: Cluster) -> float:
    return 1 - float(cluster.free_milli.sum()) / float(cluster.total_milli.sum())

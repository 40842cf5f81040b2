"""The residency benchmark's own simulator, on logs small enough to follow by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.policies.residency.baselines import baseline
from loadtests.policies.residency.lean import Lean, Outcome
from loadtests.policies.residency.zoo import GB, GPU_BYTES, model
from packers.types import Model

POLICIES = ("lru", "ttl", "gdsf", "rate", "hybrid", "ours", "belady", "oracle")
BIG = 30 * GB  # weights; 42 GB on the GPU: one to a GPU


def play(
    log: list[tuple[float, int]],
    models: list[Model],
    policy: str = "lru",
    *,
    gpus: int = 1,
    host: int = 1000 * GB,
    service_s: float = 1.0,
) -> Outcome:
    at_s, which = [time_s for time_s, _ in log], [one for _, one in log]
    lean = Lean(models, gpus, host, baseline(policy, models, at_s, which))
    outcome = lean.play(at_s, which, [service_s] * len(log))
    _check_books(lean, host)
    return outcome


def _check_books(lean: Lean, host: int) -> None:
    for place, there in enumerate(lean.on):
        assert lean.free[place] == GPU_BYTES - sum(lean.models[one].footprint.gpu_bytes for one in there) >= 0
        assert all(lean.where[one] == place for one in there)
    assert lean.host_free == host - sum(lean.models[one].footprint.host_bytes for one in lean.asleep) >= 0
    assert not set(lean.asleep) & {one for there in lean.on for one in there}


def pair() -> list[Model]:
    return [model("a", BIG), model("b", BIG)]


def test_a_first_request_waits_for_the_disk_and_the_next_for_nothing() -> None:
    outcome = play([(0.0, 0), (100.0, 0)], pair())
    assert outcome.waits_s.tolist() == [pytest.approx(18.0), 0.0]
    assert (outcome.loads, outcome.disk_loads, outcome.delayed_percent) == (1, 1, 50.0)


def test_who_was_evicted_comes_back_from_host_ram() -> None:
    outcome = play([(0.0, 0), (100.0, 1), (200.0, 0)], pair())
    assert outcome.waits_s.tolist() == pytest.approx([18.0, 18.0, 2.5])
    assert outcome.load_s == pytest.approx(38.5)


def test_without_host_ram_it_comes_from_disk() -> None:
    assert play([(0.0, 0), (100.0, 1), (200.0, 0)], pair(), host=GB).disk_loads == 3


def test_a_busy_replica_is_not_evicted() -> None:
    outcome = play([(0.0, 0), (20.0, 1)], pair(), service_s=10.0)
    assert outcome.waits_s.tolist() == pytest.approx([18.0, 8.0 + 18.0]), "a serves until 28 s"


def test_requests_that_come_while_it_loads_are_delayed_too() -> None:
    assert play([(0.0, 0), (5.0, 0), (17.0, 0)], pair()).waits_s.tolist() == pytest.approx([18.0, 13.0, 1.0])


def test_the_oracle_knows_who_comes_next() -> None:
    three = [*pair(), model("c", BIG)]
    log = [(100.0 * n, one) for n, one in enumerate([0, 1, 2, 0, 2, 0, 2, 0, 1])]
    assert play(log, three, "belady", gpus=2).loads < play(log, three, "lru", gpus=2).loads


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_serves_every_request(policy: str) -> None:
    rng = np.random.default_rng(5)
    models = [model(f"m{n}", int(size)) for n, size in enumerate(rng.integers(1, 60, 12) * GB)]
    times = np.sort(rng.random(800) * 40_000).tolist()
    outcome = play(list(zip(times, rng.zipf(1.5, 800) % 12, strict=True)), models, policy, gpus=2, host=100 * GB)
    assert outcome.waits_s.min() >= 0
    assert 1 < outcome.delayed_percent < 99
    assert outcome.disk_loads <= outcome.loads


LOGS = st.lists(st.tuples(st.floats(0, 500), st.integers(0, 3)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(LOGS, st.lists(st.integers(1, 60), min_size=4, max_size=4), st.sampled_from(POLICIES), st.integers(0, 90))
def test_books_balance_and_results_repeat(
    log: list[tuple[float, int]], sizes: list[int], policy: str, host_gb: int
) -> None:
    models = [model(f"m{n}", size * GB) for n, size in enumerate(sizes)]
    first = play(sorted(log), models, policy, host=host_gb * GB)
    again = play(sorted(log), models, policy, host=host_gb * GB)
    assert first.waits_s.tolist() == again.waits_s.tolist()
    assert first.load_s == again.load_s

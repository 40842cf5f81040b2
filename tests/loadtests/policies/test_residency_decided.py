"""The production decision beside ``lean``: the same, where it promises nothing that ``lean`` does not know of."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.policies.residency.baselines import baseline
from loadtests.policies.residency.decided import POLICIES, compared, decided
from loadtests.policies.residency.lean import Lean, Outcome
from loadtests.policies.residency.zoo import GB, model
from packers.sim import Trace
from packers.types import Model

MODELS = [model(f"m{place}", size * GB) for place, size in enumerate((30, 20, 10, 10, 5))]


def trace_of(gap_s: float, requests: int = 400, *, regular: bool = False) -> Trace:
    rng = np.random.default_rng(1)
    at_s = np.arange(requests) * gap_s if regular else np.cumsum(rng.exponential(gap_s, requests))
    which = rng.choice(len(MODELS), size=requests, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    return Trace.of([one.id for one in MODELS], at_s, which, np.ones(requests))


def lean(name: str, models: list[Model], trace: Trace, gpus: int, host_bytes: int) -> Outcome:
    at_s, which = trace.at_s.tolist(), trace.model.tolist()
    policy = baseline(name, models, at_s, which)
    return Lean(models, gpus, host_bytes, policy).play(at_s, which, trace.service_s.tolist())


@pytest.mark.parametrize("host_bytes", [1000 * GB, 40 * GB])
def test_lru_decides_the_same_while_requests_are_far_apart(host_bytes: int) -> None:
    apart = trace_of(gap_s=120.0, regular=True)
    result, small = decided("lru", MODELS, apart, 1, host_bytes), lean("lru", MODELS, apart, 1, host_bytes)
    assert 100 * result.delayed_share == pytest.approx(small.delayed_percent)
    assert (result.loads, result.starts_disk) == (small.loads, small.disk_loads)
    assert result.load_s == pytest.approx(small.load_s)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_under_pressure_it_stays_close(name: str) -> None:
    trace = trace_of(gap_s=5.0, requests=2_000)
    result, small = decided(name, MODELS, trace, 1, 1000 * GB), lean(name, MODELS, trace, 1, 1000 * GB)
    assert result.served == len(trace)
    assert 100 * result.delayed_share == pytest.approx(small.delayed_percent, rel=0.15)


def test_there_is_a_line_for_each_policy_beside_what_lean_says() -> None:
    trace = trace_of(gap_s=20.0)
    outcomes = {name: lean(name, MODELS, trace, 1, 1000 * GB) for name in POLICIES}
    figures = compared("E1", "file", MODELS, trace, 1, 1000 * GB, outcomes)
    assert [one.name for one in figures] == [f"delayed, production decision, {name} on 1 GPUs" for name in POLICIES]
    assert [one.met for one in figures] == [None, None]
    assert [one.others for one in figures] == [{f"lean {name}": outcomes[name].delayed_percent} for name in POLICIES]

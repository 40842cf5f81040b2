from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from packers.sim.generate import Traffic, arrivals, generate, poisson, service_times, tokens, zipf_shares
from packers.sim.trace import DAY_S, HOUR_S

HOUR = Traffic(models=5, rate_per_s=5.0, duration_s=HOUR_S)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_one_seed_one_trace() -> None:
    assert generate(HOUR, rng(1)).at_s.tolist() == generate(HOUR, rng(1)).at_s.tolist()
    assert generate(HOUR, rng(1)).at_s.tolist() != generate(HOUR, rng(2)).at_s.tolist()


def test_the_rate_is_kept_and_shared_out_by_rank() -> None:
    trace = generate(replace(HOUR, zipf=1.0), rng())
    assert trace.rate_per_s == pytest.approx(5.0, rel=0.05)
    counts = list(trace.counts().values())
    assert counts == sorted(counts, reverse=True)
    assert counts[0] / counts[4] == pytest.approx(5, rel=0.2)
    assert trace.names[0] == "model-000"


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gaps_vary_as_asked(cv: float) -> None:
    gaps_s = np.diff(arrivals(np.full(100, 10.0), 60.0, cv, rng()))
    assert gaps_s.mean() == pytest.approx(0.1, rel=0.1)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.1)


def test_arrivals_follow_the_rate_of_the_moment() -> None:
    times = arrivals(np.array([0.0, 10.0, 0.0, 20.0]), 100.0, 1.0, rng())
    counts = np.histogram(times, bins=4, range=(0, 400))[0]
    assert counts[0] == counts[2] == 0
    assert counts[1] == pytest.approx(1000, rel=0.1)
    assert counts[3] == pytest.approx(2000, rel=0.1)


def test_poisson_counts_vary_as_much_as_they_are_large() -> None:
    counts = [poisson(2.0, 50.0, rng(seed)).size for seed in range(400)]
    assert np.mean(counts) == pytest.approx(100, rel=0.05)
    assert np.var(counts) == pytest.approx(100, rel=0.25)


def test_a_day_swings_around_two_in_the_afternoon() -> None:
    trace = generate(Traffic(models=1, rate_per_s=1, duration_s=DAY_S, swing=0.9, spread_h=0), rng())
    counts = np.histogram(trace.at_s, bins=24, range=(0, DAY_S))[0]
    assert int(counts.argmax()) in (12, 13, 14, 15)
    assert counts[2] < 0.3 * counts[14]


def test_bursts_stand_out() -> None:
    calm = Traffic(models=1, rate_per_s=1, duration_s=DAY_S)
    wild = replace(calm, bursts_per_day=10, burst_factor=20, burst_s=120)
    peaks = [np.histogram(generate(one, rng(3)).at_s, bins=1440)[0].max() for one in (calm, wild)]
    assert peaks[1] > 5 * peaks[0]


def test_service_times_and_tokens_have_the_mean_that_is_asked_for() -> None:
    assert service_times(100_000, 4.0, 1.5, rng()).mean() == pytest.approx(4.0, rel=0.05)
    assert tokens(100_000, 300, rng()).mean() == pytest.approx(300, rel=0.05)
    assert service_times(3, 0.0, 1.0, rng()).tolist() == [0, 0, 0]
    trace = generate(replace(HOUR, service_s=2.0, output_tokens=50), rng())
    assert trace.service_s.mean() == pytest.approx(2.0, rel=0.1)
    assert trace.input_tokens.max() == 0


def test_shares_add_up() -> None:
    assert zipf_shares(100, 1.4).sum() == pytest.approx(1)
    assert zipf_shares(3, 0.0).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("models", 0),
        ("rate_per_s", 0),
        ("rate_per_s", math.nan),
        ("duration_s", -1),
        ("cv", 0),
        ("zipf", -1),
        ("swing", 1.5),
        ("service_s", math.nan),
        ("burst_factor", 0),
    ],
)
def test_wrong_values_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"traffic\.{field}"):
        replace(HOUR, **{field: value})  # type: ignore[arg-type]


def test_as_many_names_as_models() -> None:
    assert generate(replace(HOUR, models=2), rng(), ["x", "y"]).names == ("x", "y")
    with pytest.raises(ValueError, match="1 names"):
        generate(replace(HOUR, models=2), rng(), ["x"])

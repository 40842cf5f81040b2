"""Made-up traffic. Every function draws from the generator that it is given: one seed, one trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from packers.sim.trace import DAY_S, HOUR_S, Floats, Trace

STEP_S = 60.0  # rates are constant within a step


@dataclass(frozen=True, slots=True)
class Traffic:
    """What ``generate`` makes.

    ``zipf``: the k-th model's share is proportional to k^-zipf. ``cv``: of the gaps between a model's requests
    (standard deviation / mean; 1 is Poisson). ``swing``: from 0 (none) to 1, how far the rate moves away from its mean
    over a day, each model with a peak of its own within ``spread_h`` hours. ``bursts_per_day`` per model, each
    ``burst_s`` long with ``burst_factor`` times the rate. ``service_s``: mean, with ``service_cv``; 0: not stated.
    ``input_tokens``, ``output_tokens``: means of geometric distributions; 0: not stated.
    """

    models: int = 10
    rate_per_s: float = 1.0
    duration_s: float = HOUR_S
    zipf: float = 1.0
    cv: float = 1.0
    swing: float = 0.0
    spread_h: float = 6.0
    bursts_per_day: float = 0.0
    burst_factor: float = 10.0
    burst_s: float = 120.0
    service_s: float = 0.0
    service_cv: float = 1.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0

    def __post_init__(self) -> None:
        for name in ("models", "rate_per_s", "duration_s", "cv", "burst_factor", "burst_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"traffic.{name} must be above 0, got {getattr(self, name)}")
        for name in ("zipf", "spread_h", "bursts_per_day", "service_s", "service_cv", "input_tokens", "output_tokens"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"traffic.{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.swing <= 1:
            raise ValueError(f"traffic.swing must be from 0 to 1, got {self.swing}")


def generate(traffic: Traffic, rng: np.random.Generator, names: Sequence[str] | None = None) -> Trace:
    """``names``: of the models, most wanted first; default model-000, model-001 ..."""
    known = names or [f"model-{number:03d}" for number in range(traffic.models)]
    if len(known) != traffic.models:
        raise ValueError(f"traffic.models is {traffic.models}, but {len(known)} names are given")
    times = []
    for share in zipf_shares(traffic.models, traffic.zipf):
        rates = diurnal(traffic, rng) * bursts(traffic, rng) * share * traffic.rate_per_s
        times.append(arrivals(rates, STEP_S, traffic.cv, rng, traffic.duration_s))
    model = np.repeat(np.arange(traffic.models), [one.size for one in times])
    return Trace.of(
        known,
        np.concatenate(times),
        model,
        service_times(model.size, traffic.service_s, traffic.service_cv, rng),
        tokens(model.size, traffic.input_tokens, rng),
        tokens(model.size, traffic.output_tokens, rng),
    )


def zipf_shares(count: int, exponent: float) -> Floats:
    """Sum 1, largest first."""
    weights: Floats = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    shares: Floats = weights / weights.sum()
    return shares


def arrivals(
    rates_per_s: Floats, step_s: float, cv: float, rng: np.random.Generator, duration_s: float = math.inf
) -> Floats:
    """Gamma gaps that run off at a rate of ``rates_per_s[k]`` in the k-th step (``cv`` 1: a Poisson process)."""
    due = np.concatenate([[0.0], np.cumsum(rates_per_s * step_s)])
    shape = cv**-2
    marks = np.array([rng.gamma(shape, 1 / shape) * rng.random()])
    while marks[-1] < due[-1]:
        more = max(16, int(1.1 * (due[-1] - marks[-1])))
        marks = np.concatenate([marks, marks[-1] + np.cumsum(rng.gamma(shape, 1 / shape, more))])
    times: Floats = np.interp(marks[marks < due[-1]], due, np.arange(due.size) * step_s)
    early: Floats = times[times < duration_s]
    return early


def poisson(rate_per_s: float, duration_s: float, rng: np.random.Generator) -> Floats:
    """Sorted times."""
    return arrivals(np.array([rate_per_s]), duration_s, 1.0, rng)


def diurnal(traffic: Traffic, rng: np.random.Generator) -> Floats:
    """Factors around 1 for each step: a sine over the day."""
    middle_s = (np.arange(math.ceil(traffic.duration_s / STEP_S)) + 0.5) * STEP_S
    peak_s = 14 * HOUR_S + rng.uniform(-0.5, 0.5) * traffic.spread_h * HOUR_S
    factors: Floats = 1 + traffic.swing * np.cos(2 * math.pi * (middle_s - peak_s) / DAY_S)
    return factors


def bursts(traffic: Traffic, rng: np.random.Generator) -> Floats:
    """Factors for each step: ``burst_factor`` during bursts, else 1."""
    factors = np.ones(math.ceil(traffic.duration_s / STEP_S))
    for _ in range(rng.poisson(traffic.bursts_per_day * traffic.duration_s / DAY_S)):
        begin = int(rng.uniform(0, traffic.duration_s) / STEP_S)
        factors[begin : begin + max(1, round(traffic.burst_s / STEP_S))] = traffic.burst_factor
    return factors


def service_times(count: int, mean_s: float, cv: float, rng: np.random.Generator) -> Floats:
    """Log-normal; zeros (not known) when the mean is 0."""
    if not mean_s:
        return np.zeros(count)
    sigma = math.sqrt(math.log1p(cv * cv))
    return rng.lognormal(math.log(mean_s) - sigma * sigma / 2, sigma, count)


def tokens(count: int, mean: float, rng: np.random.Generator) -> Floats:
    return rng.geometric(min(1.0, 1 / mean), count).astype(np.float64) if mean else np.zeros(count)

"""Intervals hold what they promise, and alike sides are called different as seldom as promised."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.report import estimate
from loadtests.report.blocks import Floats, block_length
from loadtests.report.estimate import Figure, figures, holm, paired, unpaired
from loadtests.report.statistic import Values
from tests.loadtests.report.made import autoregressive

NAMES = ("mean", "p50", "p90")
TIMES = 200


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """For time's sake; the real number makes intervals steadier, not wider."""
    monkeypatch.setattr(estimate, "DRAWS", 400)
    monkeypatch.setattr(estimate.drawn, "__defaults__", (400,))
    monkeypatch.setattr(estimate._draws, "__defaults__", (400,))


def values(samples: Floats) -> Values:
    return Values.of([[float(value)] for value in samples])


def latencies(rng: np.random.Generator, count: int, weight: float = 0.0) -> Floats:
    """Lognormal, as latencies are: median 20, with a tail."""
    found: Floats = 20 * np.exp(0.5 * autoregressive(rng, count, weight))
    return found


def holds(figure: Figure, true: float) -> bool:
    """An end that is not bounded excludes nothing."""
    return (figure.low is None or figure.low <= true) and (figure.high is None or true <= figure.high)


TRUE = {"mean": 20 * math.exp(0.125), "p50": 20.0, "p90": 20 * math.exp(0.5 * 1.2815516)}


@pytest.mark.parametrize(("weight", "least"), [(0.0, 0.90), (0.6, 0.84)])
def test_an_interval_has_the_true_figure_in_it(weight: float, least: float) -> None:
    """95% are promised. Small runs of values that hang together have fewer independent ones than it looks: the bound is
    what block bootstraps reach there, and one without blocks does not."""
    inside = dict.fromkeys(NAMES, 0)
    for seed in range(TIMES):
        rng = np.random.default_rng(seed)
        samples = latencies(rng, 250, weight)
        for name, figure in zip(NAMES, figures([values(samples)], NAMES, block_length([samples]), rng), strict=True):
            inside[name] += holds(figure, TRUE[name])
    assert all(found / TIMES >= least for found in inside.values()), inside


def test_without_blocks_requests_that_hang_together_would_seem_surer_than_they_are() -> None:
    inside = 0
    for seed in range(TIMES):
        rng = np.random.default_rng(seed)
        (figure,) = figures([values(latencies(rng, 250, 0.8))], ["mean"], 1, rng)
        inside += holds(figure, TRUE["mean"])
    assert inside / TIMES < 0.7


def test_an_interval_of_passes_has_what_lies_between_passes_in_it() -> None:
    """Each pass is 20% faster or slower by itself, which no request of it shows."""
    inside = 0
    for seed in range(TIMES):
        rng = np.random.default_rng(seed)
        passes = [values(latencies(rng, 60) * math.exp(0.2 * rng.standard_normal())) for _ in range(5)]
        (figure,) = figures(passes, ["mean"], 1, rng)
        inside += holds(figure, TRUE["mean"] * math.exp(0.02))
    assert inside / TIMES >= 0.90


def false_alarms(kind: str, weight: float) -> float:
    """How often a comparison of alike sides calls anything different."""
    alarms = 0
    for seed in range(TIMES):
        rng = np.random.default_rng(seed)
        common = rng.standard_normal(5) * 0.3
        passes = 5 if kind == "passes" else 1
        shape = latencies(rng, 150, weight)
        sides: list[list[Floats]] = [[], []]
        for number in range(passes):
            for side in sides:
                # What pairs have in common: the same prompts at the same times.
                own = (
                    shape * np.exp(0.2 * autoregressive(rng, 150, weight))
                    if kind != "unpaired"
                    else latencies(rng, 150, weight)
                )
                drift = math.exp(common[number] + 0.1 * rng.standard_normal()) if kind == "passes" else 1.0
                side.append(own * drift)
        length = block_length([one for side in sides for one in side])
        first, second = ([values(one) for one in side] for side in sides)
        compare = unpaired if kind == "unpaired" else paired
        found = compare(first, second, NAMES, length, rng)
        alarms += any(p < estimate.LEVEL for p in holm([one.p for one in found]))
    return alarms / TIMES


@pytest.mark.parametrize("kind", ["paired", "unpaired", "passes"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_alike_sides_are_seldom_called_different(kind: str, weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 5% in the long run; of 200 comparisons up to 8.5% are within three standard errors of that. Where
    requests hang together, blocks have to be guessed from the same data: 10%."""
    if kind == "passes":  # Student's t; draws tell only how far apart requests are within a pass
        monkeypatch.setattr(estimate._draws, "__defaults__", (100,))
        monkeypatch.setattr(estimate.drawn, "__defaults__", (100,))
    assert false_alarms(kind, weight) <= (0.085 if weight == 0 else 0.10)


@pytest.mark.parametrize("kind", ["paired", "unpaired", "passes"])
def test_a_real_difference_is_found_and_measured(kind: str) -> None:
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        passes = 5 if kind == "passes" else 1
        one = [latencies(rng, 200) for _ in range(passes)]
        same = kind != "unpaired"
        other = [
            (side if same else latencies(rng, 200)) * np.exp(0.05 * rng.standard_normal(200)) + 5.0 for side in one
        ]
        compare = unpaired if kind == "unpaired" else paired
        found += compare([values(side) for side in one], [values(side) for side in other], ["p50"], 1, rng)
    assert np.mean([one.p < 0.05 for one in found]) >= 0.9
    assert np.median([one.change.value for one in found]) == pytest.approx(5.0, abs=0.7)
    covered = [one.change.low <= 5.0 <= one.change.high for one in found if one.change.low and one.change.high]
    assert np.mean(covered) >= 0.75


def test_pairs_see_what_is_lost_in_the_noise_between_requests() -> None:
    """A millisecond, where requests differ by tens."""
    rng = np.random.default_rng(0)
    one = latencies(rng, 300)
    other = one + 1.0 + 0.1 * rng.standard_normal(300)
    (with_pairs,) = paired([values(one)], [values(other)], ["mean"], 1, rng)
    (without,) = unpaired([values(one)], [values(other)], ["mean"], 1, rng)
    assert with_pairs.p < 0.01 < 0.2 < without.p


def test_the_same_seed_says_the_same() -> None:
    samples = values(latencies(np.random.default_rng(3), 120))
    first, second = (figures([samples], NAMES, 3, np.random.default_rng(9)) for _ in range(2))
    assert first == second


def test_a_percentile_of_too_few_is_not_bounded_above() -> None:
    rng = np.random.default_rng(1)
    few, many = (figures([values(latencies(rng, count))], ["p50", "p99"], 1, rng) for count in (200, 400))
    assert few[0].high is not None
    assert few[1].high is None
    assert few[1].low is not None
    assert many[1].high is not None


def test_of_very_few_nothing_is_bounded() -> None:
    """One request's resamples are all alike: without a bound they would be sure of nothing they know."""
    rng = np.random.default_rng(1)
    for count in (1, 5):
        for figure in figures([values(latencies(rng, count))], ["mean", "p50"], 1, rng):
            assert (figure.low, figure.high) == (None, None)
    for figure in figures([values(latencies(rng, 12))], ["mean", "p50"], 1, rng):
        assert None not in (figure.low, figure.high)
    assert figures([values(latencies(rng, 12))], ["mean"], 3, rng)[0].high is None, "four blocks are four values"


def test_one_value_repeated_is_sure_of_itself() -> None:
    (figure,) = figures([values(np.full(50, 7.0))], ["p50"], 1, np.random.default_rng(0))
    assert (figure.value, figure.low, figure.high) == (7.0, 7.0, 7.0)
    same = [values(np.full(50, 7.0)) for _ in range(3)]
    (alike,) = paired(same, same, ["p50"], 1, np.random.default_rng(0))
    assert (alike.change.value, alike.p) == (0.0, 1.0)
    slower = [values(np.full(50, 8.0)) for _ in range(3)]
    (changed,) = paired(same, slower, ["p50"], 1, np.random.default_rng(0))
    assert (changed.change.value, changed.p) == (1.0, 0.0)
    assert changed.share is not None
    assert changed.share.value == pytest.approx(1 / 7)


@pytest.mark.parametrize("passes", [1, 3])
def test_nothing_measured_says_nothing(passes: int) -> None:
    nothing, some = Values.of([[], []]), values(np.arange(1.0, 9.0, dtype=np.float64))
    for one, other in ((nothing, some), (some, nothing)):
        (found,) = unpaired([one] * passes, [other] * passes, ["p50"], 1, np.random.default_rng(0))
        assert math.isnan(found.p)
        assert math.isnan(found.change.value)


def test_a_single_run_against_several_passes() -> None:
    rng = np.random.default_rng(2)
    several = [values(latencies(rng, 100) * factor) for factor in (0.8, 1.0, 1.2)]
    (alike,) = unpaired([values(latencies(rng, 100))], several, ["mean"], 1, rng)
    (slower,) = unpaired([values(latencies(rng, 100))], [values(one.sorted + 200) for one in several], ["mean"], 1, rng)
    assert alike.p > 0.05 > slower.p


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_makes_no_p_smaller_and_keeps_their_order(ps: list[float]) -> None:
    found = holm(ps)
    assert all(after >= before for before, after in zip(ps, found, strict=True))
    ranked = sorted(range(len(ps)), key=lambda place: ps[place])
    assert all(found[one] <= found[other] for one, other in pairwise(ranked))


def test_holms_own_example() -> None:
    """The smallest of n times n, the next times n - 1, and so on; what was not tested does not count."""
    assert holm([0.01, 0.04, 0.03, math.nan]) == [
        pytest.approx(0.03),
        pytest.approx(0.06),
        pytest.approx(0.06),
        pytest.approx(math.nan, nan_ok=True),
    ]
    assert holm([]) == []

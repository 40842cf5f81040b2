"""Figures with their confidence intervals, and whether two differ by more than chance. Pure; a seed repeats it.

1. Of one run, or of one pair: circular block bootstrap over its requests, percentile intervals (Efron and Tibshirani,
   *An Introduction to the Bootstrap*, 1993, 13.3); an end beyond which too few values lie is left open. Tests exchange
   the sides block by block: within pairs where both sides have one plan, else among all blocks (Good, *Permutation,
   Parametric and Bootstrap Tests of Hypotheses*, 2005, 3.2; the p-value counts the observed one: Phipson and Smyth,
   Stat. Appl. Genet. Mol. Biol. 9, 2010).
2. Of several passes: what differs from pass to pass (a machine that is busier now than then) counts too. The figure is
   the passes' mean, its standard error the larger one of what the passes themselves show and of what their requests do,
   with Student's t of passes - 1 (Hartung and Knapp, Stat. Med. 20, 2001; never narrower than without what lies between
   passes: Roever, Knapp and Friede, BMC Med. Res. Methodol. 15:99, 2015). Two sides that were not run in turns: Welch.
3. Many figures, one question: the p-values of a comparison are adjusted after Holm (Scand. J. Stat. 6, 1979), so that
   a comparison of two alike runs says anything at all with a probability of at most LEVEL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loadtests.report.blocks import Floats, Whole, block_of, resampled
from loadtests.report.statistic import Values, needed, share_of
from loadtests.report.student import critical, two_sided

LEVEL = 0.05
DRAWS = 2000
FEWEST_DRAWS = 300
BUDGET = 2e8  # values looked at for one metric: larger runs are drawn less often
# So many times: how often each request is the first side's, and how often the second's.
Exchange = Callable[[int], tuple[Floats | Whole, Floats | Whole]]
_CHUNK = 4_000_000  # weights in memory at once


@dataclass(frozen=True, slots=True)
class Figure:
    """``low``, ``high``: of its 95% interval; None where the requests are too few to bound it on that side."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The second side less the first. ``p``: two-sided, before adjustment; ``share``: of the first side's figure."""

    first: Figure
    second: Figure
    change: Figure
    p: float
    passes: tuple[float, ...] = ()

    @property
    def share(self) -> Figure | None:
        base = self.first.value
        if not base:
            return None
        low, high = self.change.low, self.change.high
        return Figure(
            self.change.value / base, None if low is None else low / base, None if high is None else high / base
        )


@dataclass(frozen=True, slots=True)
class Draws:
    """A pass: its ``figures`` (names), and those of each resample (draws, names)."""

    figures: Floats
    drawn: Floats


def drawn(values: Values, names: Sequence[str], length: int, rng: np.random.Generator, draws: int = DRAWS) -> Draws:
    """``length``: requests a block."""
    count = max(1, values.requests)
    parts = []
    for size in _chunks(_draws(values, draws), count):
        weights = resampled(count, length, size, rng) if values.requests else np.zeros((size, count))
        parts.append(values.weighted(weights, names))
    return Draws(values.statistics(names), np.concatenate(parts))


def figures(passes: Sequence[Values], names: Sequence[str], length: int, rng: np.random.Generator) -> list[Figure]:
    """Of one side, one for each name; NaN where nothing was measured."""
    found = [drawn(one, names, length, rng) for one in passes]
    if len(passes) == 1:
        ends = [_ends(passes[0], name, length) for name in names]
        return [_percentile(found[0].figures[k], found[0].drawn[:, k], ends[k]) for k in range(len(names))]
    return [over_passes(found, k) for k in range(len(names))]


def paired(
    firsts: Sequence[Values], seconds: Sequence[Values], names: Sequence[str], length: int, rng: np.random.Generator
) -> list[Difference]:
    """Pass k of one side and pass k of the other have one plan, and the same requests in the same order."""
    sides, changes = [], []
    for first, second in zip(firsts, seconds, strict=True):
        seed = int(rng.integers(2**63))  # the same requests of both sides are drawn: what they share falls out
        one, other = (
            drawn(side, names, length, np.random.default_rng(seed), _draws(second)) for side in (first, second)
        )
        rounds = min(len(one.drawn), len(other.drawn))
        sides.append((one, other))
        changes.append(Draws(other.figures - one.figures, other.drawn[:rounds] - one.drawn[:rounds]))
    if len(changes) == 1:
        ps = _swapped(firsts[0], seconds[0], names, length, rng)
        return _of_one(sides[0], changes[0], (firsts[0], seconds[0]), names, length, ps)
    found = []
    for k in range(len(names)):
        before, after = (over_passes([both[side] for both in sides], k) for side in (0, 1))
        each = np.array([change.figures[k] for change in changes])
        figure, p = _over_passes(each, _within(changes, k))
        found.append(Difference(before, after, figure, p, tuple(float(value) for value in each)))
    return found


def unpaired(
    firsts: Sequence[Values], seconds: Sequence[Values], names: Sequence[str], length: int, rng: np.random.Generator
) -> list[Difference]:
    """Nothing ties a request, or a pass, of one side to one of the other."""
    one, other = ([drawn(values, names, length, rng) for values in side] for side in (firsts, seconds))
    if len(one) == len(other) == 1:
        rounds = min(len(one[0].drawn), len(other[0].drawn))
        change = Draws(other[0].figures - one[0].figures, other[0].drawn[:rounds] - one[0].drawn[:rounds])
        ps = _shuffled(firsts[0], seconds[0], names, length, rng)
        return _of_one((one[0], other[0]), change, (firsts[0], seconds[0]), names, length, ps)
    return [_welch(one, other, k) for k in range(len(names))]


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the same order; NaN (nothing to test) stays and does not count."""
    real = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    found, worst = list(ps), 0.0
    for rank, (p, place) in enumerate(real):
        worst = max(worst, min(1.0, p * (len(real) - rank)))
        found[place] = worst
    return found


def _of_one(
    sides: tuple[Draws, Draws], change: Draws, values: tuple[Values, Values], names: Sequence[str], length: int,
    ps: Sequence[float],
) -> list[Difference]:  # fmt: skip
    found = []
    for k, name in enumerate(names):
        ends = [_ends(one, name, length) for one in values]
        first, second = (
            _percentile(side.figures[k], side.drawn[:, k], end) for side, end in zip(sides, ends, strict=True)
        )
        # What has no end on either side leaves the difference without one on both.
        known = all(low and high for low, high in ends)
        changed = _percentile(change.figures[k], change.drawn[:, k], (known, known))
        found.append(Difference(first, second, changed, ps[k]))
    return found


def _percentile(value: float, draws: Floats, ends: tuple[bool, bool]) -> Figure:
    """``ends``: whether the interval has a lower one, and an upper one."""
    known = draws[~np.isnan(draws)]
    if math.isnan(value) or not len(known):
        return Figure(math.nan, None, None)
    low, high = (float(end) for end in np.quantile(known, [LEVEL / 2, 1 - LEVEL / 2]))
    return Figure(float(value), low if ends[0] else None, high if ends[1] else None)


def _ends(values: Values, name: str, length: int) -> tuple[bool, bool]:
    """Whether there are enough values, hanging together as they do, for a lower and for an upper end. A mean takes as
    many as a median: of fewer, resamples say next to nothing of what was not drawn."""
    share = share_of(name)
    independent = len(values.sorted) / length
    below, above = (0.5, 0.5) if share is None else (1 - share, share)
    return independent >= needed(below, LEVEL), independent >= needed(above, LEVEL)


def over_passes(passes: Sequence[Draws], k: int) -> Figure:
    """The mean of the k-th figure of several passes; none of the figures can be below 0."""
    return _from_0(_over_passes(np.array([one.figures[k] for one in passes]), _within(passes, k))[0])


def _within(passes: Sequence[Draws], k: int) -> float:
    """Standard error of the passes' mean, as their requests show it."""
    variances = [np.nanvar(one.drawn[:, k]) if np.any(~np.isnan(one.drawn[:, k])) else np.nan for one in passes]
    return math.sqrt(sum(float(one) for one in variances)) / len(passes)


def _over_passes(each: Floats, within: float) -> tuple[Figure, float]:
    """The mean's interval, and the p-value of it being 0."""
    if np.any(np.isnan(each)):
        return Figure(math.nan, None, None), math.nan
    freedom, mean = len(each) - 1, float(np.mean(each))
    between = float(np.std(each, ddof=1) / math.sqrt(len(each)))
    return _student(mean, max(between, within), freedom)


def _student(mean: float, error: float, freedom: int) -> tuple[Figure, float]:
    half = critical(LEVEL, freedom) * error
    p = (1.0 if mean == 0 else 0.0) if error == 0 else two_sided(mean / error, freedom)
    return Figure(mean, mean - half, mean + half), p


def _latency(mean: float, error: float, freedom: int) -> Figure:
    return _from_0(_student(mean, error, freedom)[0])


def _from_0(figure: Figure) -> Figure:
    return replace(figure, low=None if figure.low is None else max(0.0, figure.low))


def _welch(one: Sequence[Draws], other: Sequence[Draws], k: int) -> Difference:
    parts = []
    for side in (one, other):
        each = np.array([draw.figures[k] for draw in side])
        within = _within(side, k)
        # A side of a single run shows nothing of what lies between runs: the other side's is taken for it.
        between = float(np.std(each, ddof=1)) if len(each) > 1 else math.nan
        parts.append((each, within, between))
    spread = [between for _, _, between in parts if not math.isnan(between)]
    errors = []
    for each, within, between in parts:
        own = between if not math.isnan(between) else max(spread)
        errors.append(max(within, own / math.sqrt(len(each))))
    counts = [len(each) for each, _, _ in parts]
    means = [float(np.mean(each)) for each, _, _ in parts]
    if any(math.isnan(mean) for mean in means):
        nothing = Figure(math.nan, None, None)
        return Difference(nothing, nothing, nothing, math.nan)
    total = sum(error**2 for error in errors)
    freed = [(error**4, count - 1) for error, count in zip(errors, counts, strict=True) if count > 1]
    below = sum(part / free for part, free in freed)
    freedom = max(1, min(math.floor(total**2 / below), sum(counts) - 2)) if below else max(1, sum(counts) - 2)
    change, p = _student(means[1] - means[0], math.sqrt(total), freedom)
    sides = [_latency(mean, error, max(1, count - 1)) for mean, error, count in zip(means, errors, counts, strict=True)]
    return Difference(sides[0], sides[1], change, p)


def _swapped(first: Values, second: Values, names: Sequence[str], length: int, rng: np.random.Generator) -> list[float]:
    """If the sides were alike, each block of pairs could as well have been the other way round."""
    pooled, count = first.with_(second), first.requests
    blocks = block_of(count, length)

    def exchanged(size: int) -> tuple[Whole, Whole]:
        swap = (
            rng.integers(0, 2, size=(size, int(blocks[-1]) + 1))[:, blocks]
            if count
            else np.zeros((size, 0), dtype=np.int64)
        )
        return np.concatenate([1 - swap, swap], axis=1), np.concatenate([swap, 1 - swap], axis=1)

    return _tested(pooled, first, second, names, exchanged)


def _shuffled(
    first: Values, second: Values, names: Sequence[str], length: int, rng: np.random.Generator
) -> list[float]:
    """If the sides were alike, any blocks of all could have been the first side's."""
    pooled = first.with_(second)
    mine = block_of(first.requests, length)
    theirs = block_of(second.requests, length)
    offset = int(mine[-1]) + 1 if len(mine) else 0
    blocks = np.concatenate([mine, theirs + offset])
    total = offset + (int(theirs[-1]) + 1 if len(theirs) else 0)

    def exchanged(size: int) -> tuple[Floats, Floats]:
        to_second = rng.permuted(np.tile(np.arange(total) >= offset, (size, 1)), axis=1)[:, blocks].astype(np.float64)
        return 1 - to_second, to_second

    return _tested(pooled, first, second, names, exchanged)


def _tested(pooled: Values, first: Values, second: Values, names: Sequence[str], exchanged: Exchange) -> list[float]:
    observed = np.abs(second.statistics(names) - first.statistics(names))
    beyond, rounds = np.zeros(len(names)), 0
    for size in _chunks(_draws(pooled), max(1, pooled.requests)):
        one, other = exchanged(size)
        change = np.abs(pooled.weighted(other, names) - pooled.weighted(one, names))
        # Equal to the last digits is as far: floats of one sum in another order.
        beyond += np.sum(~(change < observed * (1 - 1e-12)), axis=0)
        rounds += size
    found = (beyond + 1) / (rounds + 1)
    return [math.nan if math.isnan(far) else float(p) for far, p in zip(observed, found, strict=True)]


def _draws(values: Values, most: int = DRAWS) -> int:
    return int(min(most, max(FEWEST_DRAWS, BUDGET / max(1, len(values.sorted)))))


def _chunks(draws: int, requests: int) -> list[int]:
    size = max(1, min(draws, _CHUNK // requests))
    return [min(size, draws - begun) for begun in range(0, draws, size)]

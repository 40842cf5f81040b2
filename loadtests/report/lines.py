"""The report's figures, each with its interval; of two sides, the change, and whether it is more than chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from loadtests.outcome.slo import COMPARED
from loadtests.report import estimate
from loadtests.report.content import Line, Span, plain
from loadtests.report.estimate import Difference, Figure
from loadtests.report.shares import of_share, of_shares
from loadtests.report.sides import METRICS, Side, values
from loadtests.report.statistic import Values, share_of

FAILED = "failed"
Compare = Callable[[Sequence[Values], Sequence[Values], Sequence[str], int, np.random.Generator], list[Difference]]
NAMES: dict[str, tuple[str, ...]] = {**COMPARED, FAILED: ("mean",)}


def of_side(side: Side, length: int, rng: np.random.Generator) -> Iterator[Line]:
    """``length``: requests a block."""
    for metric in METRICS:
        passes = [values(one, metric) for one in side.passes]
        names = _names(metric, passes)
        for name, figure in zip(names, estimate.figures(passes, names, length, rng) if names else (), strict=True):
            whole = of_share(figure, _requests(passes)) if metric == FAILED else figure
            yield Line(metric, name, span(whole))


def of_both(
    first: Side, second: Side, length: int, rng: np.random.Generator, *, paired: bool, by_request: bool
) -> Iterator[Line]:
    """``paired``: their passes belong together; ``by_request``: so do their requests."""
    alone = len(first.passes) == len(second.passes) == 1
    compare: Compare = estimate.paired if paired and (by_request or not alone) else estimate.unpaired
    found: list[tuple[str, str, Difference]] = []
    for metric in METRICS:
        before, after = ([values(one, metric) for one in side.passes] for side in (first, second))
        names = _names(metric, [*before, *after])
        for name, one in zip(names, compare(before, after, names, length, rng) if names else (), strict=True):
            counts = _requests(before), _requests(after)
            found.append((metric, name, of_shares(one, counts) if metric == FAILED else one))
    # What a busy generator measured may be its own doing.
    judged = first.valid and second.valid
    for (metric, name, one), p in zip(found, estimate.holm([one.p for _, _, one in found]), strict=True):
        share = None if one.share is None else span(one.share)
        yield Line(
            metric, name, span(one.second), span(one.first), span(one.change), share,
            None if math.isnan(p) else p, judged and p < estimate.LEVEL, [round(each, 6) for each in one.passes],
        )  # fmt: skip


def _names(metric: str, taken: Sequence[Values]) -> list[str]:
    """What there are enough values for: a p99 of fewer than 100 values is the largest one."""
    fewest = min(len(one.sorted) for one in taken)
    enough = [name for name in NAMES[metric] if fewest * (1 - (share_of(name) or 0.0)) >= 1 - 1e-9]
    return enough if fewest else []


def _requests(passes: Sequence[Values]) -> int:
    return sum(one.requests for one in passes)


def span(figure: Figure) -> Span:
    low, high = (None if end is None else plain(end) for end in (figure.low, figure.high))
    return Span(plain(figure.value), low, high)

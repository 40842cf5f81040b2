"""The hybrid histogram policy (Shahrad et al., Serverless in the Wild, ATC 2020, section 4.2), for models.

Of a model's idle times: the *head* is their 5th percentile less a tenth, the *tail* their 99th plus a tenth. From its
last use until the head nobody is expected: it is let go first. At the head it is brought back (pre-warming), and it is
kept until the tail; after that it is let go, longest unused first. The head of a model that is used at once again is
nothing, so that it stays. As long as the histogram says little - fewer than ``LEAST_GAPS`` gaps, or spread evenly: a
coefficient of variation of its counts under 2 - the model is kept for ``KEEP_S`` after each use. Gaps are counted by
half octaves instead of minutes. Not taken over: the time series model for gaps beyond four hours.
"""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

from packers.residency.stay import Residency, Stay
from packers.types import Model
from packers.usage import BINS, Usage, bin_start_s

HEAD, TAIL = 0.05, 0.99
MARGIN = 0.1
LEAST_GAPS = 10
LEAST_VARIATION = 2.0
LEAST_HEAD_S = 60.0  # one bin of the original: what is used again sooner is not let go in between
KEEP_S = 4 * 3600.0  # the range of the original's histogram
REMEMBERED = 1 << 14


@lru_cache(REMEMBERED)
def window(gaps: tuple[float, ...]) -> tuple[float, float]:
    """Seconds after a use from which, and until which, the model should be there."""
    total = sum(gaps)
    if total < LEAST_GAPS:
        return 0.0, KEEP_S
    mean = total / BINS
    spread = sqrt(sum((count - mean) ** 2 for count in gaps) / BINS)
    if spread < LEAST_VARIATION * mean:
        return 0.0, KEEP_S
    head_s = bin_start_s(_percentile(gaps, HEAD * total)) * (1.0 - MARGIN)
    tail_s = bin_start_s(_percentile(gaps, TAIL * total) + 1) * (1.0 + MARGIN)
    return (head_s if head_s >= LEAST_HEAD_S else 0.0), tail_s


def _percentile(gaps: tuple[float, ...], wanted: float) -> int:
    """The half octave in which so many gaps are reached."""
    reached = 0.0
    for place, count in enumerate(gaps):
        reached += count
        if reached >= wanted and count:
            return place
    return len(gaps) - 1


def _window(usage: Usage) -> tuple[float, float]:
    return window(usage.gaps) if usage.gaps else (0.0, KEEP_S)


def worth(model: Model, stay: Stay) -> float:
    """Above 0 while it should be there: seconds until it need not. Below: as long as it has been unused."""
    head_s, tail_s = _window(model.usage)
    idle_s = stay.idle_s
    return tail_s - idle_s if head_s <= idle_s <= tail_s else -1.0 - idle_s


def recall(model: Model, now_s: float, last_use_s: float) -> bool:
    """Its head is over, its tail is not: the next request is due."""
    head_s, tail_s = _window(model.usage)
    return 0.0 < head_s <= now_s - last_use_s <= tail_s


HYBRID = Residency("hybrid", worth, "the one whose next use is not due that may go", recall=recall)

"""How soon the next request comes, from a model's own past alone: ``per_s`` is what ``ours`` and its pre-warming ask.

Two estimates, of which neither has a time scale that somebody would have to choose:

1. *Gaps.* From the histogram of a model's gaps, given that it has been idle for so long: the best ratio, over all
   times to wait, of the chance that a request comes in that time to the expected time waited. That is Gittins' index
   of keeping it (Gittins 1979; of a hazard that falls it is the hazard itself). A model whose gaps are all short and
   that has now been idle for long is hardly expected any more; one whose gaps are long is not given up early.
   ``PRIOR_GAPS`` gaps of no scale are added, so that a model with few requests is not believed too much.
2. *Rates*, over about the last 4, 16, 64 and 256 arrivals (``Usage.centres_s``): their geometric mean.

The estimate is the geometric mean of both. Gaps see bursts and their ends, rates see whether the model has become more
or less popular; on request logs of different scale (seconds to days) the mean of both ranks better than either.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, inf, sqrt

from packers.usage import BINS, SHORTEST_GAP_S, SPANS, Usage, bin_start_s, gap_bin

PRIOR_GAPS = 2.0
PRIOR_SHARE = 0.15  # of gaps that reach half an octave end in it: a gap of no scale
LEAST_S = 1.0  # rates above one a second are all the same here
ROOT = 1.0 / len(SPANS)
REMEMBERED = 1 << 15
STARTS_S = (*(bin_start_s(place) for place in range(BINS)), bin_start_s(BINS))


def rate_per_s(usage: Usage, now_s: float, place: int) -> float:
    """Over about the last ``SPANS[place]`` arrivals; falls while none comes."""
    if not usage.centres_s:
        return 0.0
    counted = min(SPANS[place], usage.arrivals + 1)
    return counted / max(LEAST_S, now_s - usage.centres_s[place] + LEAST_S)


def rates_per_s(usage: Usage, now_s: float) -> float:
    """2. The geometric mean of all spans' rates."""
    product = 1.0
    seen = usage.arrivals + 1
    for span, centre_s in zip(SPANS, usage.centres_s, strict=True):
        age_s = now_s - centre_s + LEAST_S
        product *= (span if span < seen else seen) / (age_s if age_s > LEAST_S else LEAST_S)
    return float(product**ROOT)


@lru_cache(REMEMBERED)
def index_per_s(gaps: tuple[float, ...], place: int) -> float:
    """1. Gittins' index of a model that has been idle up to somewhere in the half octave ``place``."""
    reached = sum(gaps[place:]) + PRIOR_GAPS
    still, expected, waited_s, best = 1.0, 0.0, 0.0, 0.0
    for here in range(place, BINS):
        share = min(1.0, (gaps[here] + PRIOR_GAPS * PRIOR_SHARE) / reached)
        width_s = STARTS_S[here + 1] - STARTS_S[here]
        expected += still * share
        waited_s += still * width_s * (1.0 - share / 2.0)
        still *= 1.0 - share
        reached -= gaps[here]
        best = max(best, expected / waited_s)
    return best


def per_s(usage: Usage, now_s: float) -> float:
    """Requests to be expected per second, at least as long as it pays to wait for one. 0 of a model never used."""
    if not usage.arrivals:
        return 0.0
    idle_s = max(0.0, now_s - usage.last_s)
    if not usage.centres_s:  # only the last use is known
        return 1.0 / (idle_s + LEAST_S)
    return sqrt(index_per_s(usage.gaps, gap_bin(idle_s)) * rates_per_s(usage, now_s))


def chance(usage: Usage, now_s: float, within_s: float) -> float:
    """That a request comes within that time."""
    return 1.0 - exp(-per_s(usage, now_s) * within_s) if within_s < inf else 1.0


assert STARTS_S[1] == SHORTEST_GAP_S

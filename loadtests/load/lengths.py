"""How long prompts and answers are: distributions of tokens, by a short text.

``fixed:64`` · ``uniform:16-256`` · ``lognormal:mean=200,cv=1.2,most=2000`` · ``choice:16*3,256*1`` (value*weight)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

Lengths = Callable[[random.Random], int]


class LengthsError(ValueError):
    """The text is none of the above."""


def read_lengths(text: str) -> Lengths:
    """Draws whole numbers of at least 1. Raises LengthsError."""
    kind, _, rest = text.partition(":")
    try:
        found = _KINDS[kind.strip()](rest.strip())
    except (KeyError, ValueError):
        found = None
    if found is None:
        raise LengthsError(
            f"{text!r} is none of fixed:64, uniform:16-256, lognormal:mean=200,cv=1,most=2000, choice:16*3,256*1"
        )
    return found


def _fixed(text: str) -> Lengths:
    tokens = _positive(text)
    return lambda rng: tokens


def _uniform(text: str) -> Lengths:
    low, high = (_positive(part) for part in text.split("-"))
    if low > high:
        raise ValueError
    return lambda rng: rng.randint(low, high)


def _lognormal(text: str) -> Lengths:
    given = dict(part.split("=") for part in text.split(","))
    mean, cv, most = float(given.pop("mean")), float(given.pop("cv", "1")), _positive(given.pop("most", str(10**9)))
    if given or not (1 <= mean < math.inf and 0 <= cv < math.inf):
        raise ValueError
    # Of the normal below it: https://en.wikipedia.org/wiki/Log-normal_distribution (arithmetic moments).
    sigma = math.sqrt(math.log1p(cv * cv))
    mu = math.log(mean) - sigma * sigma / 2
    return lambda rng: min(most, max(1, round(rng.lognormvariate(mu, sigma))))


def _choice(text: str) -> Lengths:
    pairs = [part.split("*") for part in text.split(",")]
    values = [_positive(pair[0]) for pair in pairs]
    weights = [float(pair[1]) if len(pair) > 1 else 1.0 for pair in pairs]
    if min(weights) < 0 or not sum(weights) or any(len(pair) > 2 for pair in pairs):
        raise ValueError
    return lambda rng: rng.choices(values, weights)[0]


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


_KINDS: dict[str, Callable[[str], Lengths]] = {
    "fixed": _fixed, "uniform": _uniform, "lognormal": _lognormal, "choice": _choice,
}  # fmt: skip

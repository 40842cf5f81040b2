"""Student's t for whole degrees of freedom, in closed form.

Abramowitz and Stegun, *Handbook of Mathematical Functions* (1964), 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import math

_STEPS = 200  # of a bisection: more than a double can tell apart


def two_sided(t: float, freedom: int) -> float:
    """The probability of a value at least as far from 0. ``freedom`` from 1 on."""
    if math.isinf(t):
        return 0.0
    return max(0.0, 1.0 - _within(abs(t), freedom))


def critical(level: float, freedom: int) -> float:
    """Beyond which lie ``level`` of all values, both sides together; 0 < level < 1."""
    high = 1.0
    while two_sided(high, freedom) > level:
        high *= 2
    low = 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > level else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| <= t): A(t|v) of the book."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    if freedom % 2:
        term, total = math.cos(angle), 0.0
        for k in range(1, freedom // 2 + 1):
            total += term
            term *= square * 2 * k / (2 * k + 1)
        return 2 / math.pi * (angle + sine * total)
    term, total = 1.0, 0.0
    for k in range(1, freedom // 2 + 1):
        total += term
        term *= square * (2 * k - 1) / (2 * k)
    return sine * total

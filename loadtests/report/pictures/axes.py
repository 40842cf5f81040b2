"""Scales and their ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_DECADE_TICKS = 9


@dataclass(frozen=True, slots=True)
class Linear:
    """From values (``low`` to ``high``) to pixels (``at_low`` to ``at_high``)."""

    low: float
    high: float
    at_low: float
    at_high: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return self.at_low + min(1.0, max(0.0, share)) * (self.at_high - self.at_low)

    def ticks(self, most: int) -> list[float]:
        step = nice((self.high - self.low) / max(1, most))
        first = math.ceil(self.low / step - 1e-9)
        return [step * k for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Log:
    """As above, by ratios; ``low`` above 0."""

    low: float
    high: float
    at_low: float
    at_high: float

    def __call__(self, value: float) -> float:
        if value <= self.low:
            return self.at_low
        share = math.log(value / self.low) / math.log(self.high / self.low) if self.high > self.low else 0.0
        return self.at_low + min(1.0, share) * (self.at_high - self.at_low)

    def ticks(self, most: int) -> list[float]:
        """1, 2, 5 of each decade; only the 1 where there are many."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found: list[float] = []
        for per in ((1, 2, 5), (1, 3), (1,)):
            found = [k * 10.0**d for d in decades for k in per if self.low <= k * 10.0**d * (1 + 1e-9) <= self.high]
            if len(found) <= min(most, _MOST_DECADE_TICKS):
                break
        return found


def nice(step: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, at least ``step``."""
    if step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(k * power for k in _NICE if k * power >= step * (1 - 1e-9))


def around(low: float, high: float, room: float = 1.15) -> tuple[float, float]:
    """Bounds of a logarithmic axis that is at least a factor of three long."""
    low, high = max(low, 1e-3), max(high, 1e-3)
    low, high = low / room, high * room
    if high / low < 3:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(3), middle * math.sqrt(3)
    return low, high


def ms(value: float) -> str:
    """A tick: ``0.5 ms``, ``20 ms``, ``1.5 s``."""
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"


def clock(at_s: float) -> str:
    return f"{at_s:g} s" if at_s < 120 else f"{at_s / 60:g} min"

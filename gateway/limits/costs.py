"""What a request costs, in whole NANO of the currency, as far as a worker can tell. Exact: no floats."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from models.store.tenancy import MICRO, MOST_UNITS, NANO, PriceLine


@dataclass(frozen=True, slots=True)
class Rate:
    """NANO per unit, as a fraction."""

    above: int
    below: int

    def of(self, units: int) -> int:
        """Rounded to the nearest, halves to the even one, as bills are."""
        if self.below == 1:
            return self.above * units
        whole, rest = divmod(self.above * units, self.below)
        twice = rest * 2
        return whole + (twice > self.below or (twice == self.below and whole % 2 == 1))


class Costs:
    """One price line. ``by_time``: GPU time or memory-time costs something."""

    __slots__ = ("_cached", "_dearest_input", "_gib", "_gpu", "_input", "_output", "_request", "by_time")

    def __init__(self, line: PriceLine) -> None:
        cached = line.input_token if line.cached_token is None else line.cached_token
        self._input, self._cached, self._output = _rate(line.input_token), _rate(cached), _rate(line.output_token)
        self._dearest_input = _rate(max(line.input_token, cached))
        self._gpu, self._gib = _rate(line.gpu_second, MICRO), _rate(line.gib_second, MICRO)
        self._request = _rate(line.request).of(1)
        self.by_time = bool(line.gpu_second or line.gib_second)

    def most(self, input_tokens: int, output_tokens: int, gpu_us: int, gib_us: int) -> int:
        """Of a request with no more than these, however much of its prompt is cached."""
        tokens = self._dearest_input.of(input_tokens) + self._output.of(output_tokens)
        return min(MOST_UNITS, tokens + self._request + self._gpu.of(gpu_us) + self._gib.of(gib_us))

    def exact(self, input_tokens: int, cached_tokens: int, output_tokens: int, gpu_us: int, gib_us: int) -> int:
        tokens = self._input.of(input_tokens - cached_tokens) + self._cached.of(cached_tokens)
        time = self._gpu.of(gpu_us) + self._gib.of(gib_us)
        return min(MOST_UNITS, tokens + self._output.of(output_tokens) + self._request + time)


def _rate(price: Decimal, per: int = 1) -> Rate:
    fraction = Fraction(price) * NANO / per
    return Rate(fraction.numerator, fraction.denominator)

"""What a request costs, by the prices that held when it ended. Pure.

Each line is amount times price, exact, and rounded once to a whole NANO, halves to the even one. A request that came to
nothing by no fault of its caller's (5xx, 429), or was refused before it ran, costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import msgspec

from gateway.accounts import FREE, card_price, price_line
from models.store.base import Struct
from models.store.records import ModelRoute
from models.store.tenancy import NANO, HouseRecord, PriceLine
from models.store.usage import UsageEvent

NS = 10**9
KIB_MS = (1 << 20) * 1000  # in a GiB-second
TARIFFS_MAX = 100


class Tariff(Struct, frozen=True):
    """The prices from ``since_us`` on. ``cards``: model -> what its card says."""

    since_us: int
    house: HouseRecord
    cards: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)


class Rates(NamedTuple):
    """NANO per unit, as a fraction each."""

    input_token: Fraction
    cached_token: Fraction
    output_token: Fraction
    gpu_ns: Fraction
    kib_ms: Fraction
    request: Fraction


def with_prices(
    tariffs: Sequence[Tariff], now_us: int, house: HouseRecord, cards: Mapping[str, dict[str, str]]
) -> list[Tariff] | None:
    """The history with what holds now; None where nothing has changed. A model that is gone keeps its card's price."""
    last = tariffs[-1] if tariffs else None
    cards = {**(last.cards if last is not None else {}), **cards}
    prices = HouseRecord(
        currency=house.currency, price_lists=house.price_lists, default_price_list=house.default_price_list,
        version=house.version,
    )  # fmt: skip
    if last is not None and last.house == prices and last.cards == cards:
        return None
    since_us = 0 if last is None else max(now_us, last.since_us)  # before the first there were no others
    return [*tariffs, Tariff(since_us=since_us, house=prices, cards=cards)][-TARIFFS_MAX:]


class Prices:
    """``tariffs``: in order, at least one."""

    def __init__(self, tariffs: Sequence[Tariff]) -> None:
        self.tariffs = tuple(tariffs)
        self._rates: dict[tuple[int, str, str], Rates] = {}

    def at(self, time_us: int) -> Tariff:
        return self.tariffs[self._number(time_us)]

    def _number(self, time_us: int) -> int:
        for number in range(len(self.tariffs) - 1, 0, -1):
            if self.tariffs[number].since_us <= time_us:
                return number
        return 0

    def lines(
        self, event: UsageEvent, gpu_ns: int, memory_kib_ms: int, start_gpu_ns: int, requests: int = 1
    ) -> dict[str, int]:
        """Unit -> NANO; units that cost nothing are left out."""
        if event.status >= 500 or event.status == 429 or (event.status >= 400 and not event.runs):
            return {}
        rates = self.rates(event.ended_us, event.price_list, event.model)
        amounts = (
            ("input_token", rates.input_token, event.prompt_tokens - event.cached_tokens),
            ("cached_token", rates.cached_token, event.cached_tokens),
            ("output_token", rates.output_token, event.completion_tokens),
            ("gpu_second", rates.gpu_ns, gpu_ns),
            ("start_gpu_second", rates.gpu_ns, start_gpu_ns),
            ("gib_second", rates.kib_ms, memory_kib_ms),
            ("request", rates.request, requests),
        )
        return {unit: cost for unit, rate, amount in amounts if rate and amount and (cost := cost_of(rate, amount))}

    def rates(self, time_us: int, price_list: str, model: str) -> Rates:
        number = self._number(time_us)
        known = self._rates.get((number, price_list, model))
        if known is None:
            known = self._rates[number, price_list, model] = _rates(self.tariffs[number], price_list, model)
        return known


def cost_of(rate: Fraction, amount: int) -> int:
    """Whole NANO, halves to the even one."""
    whole, rest = divmod(rate.numerator * amount, rate.denominator)
    twice = rest * 2
    return whole + (twice > rate.denominator or (twice == rate.denominator and whole % 2))


def _rates(tariff: Tariff, price_list: str, model: str) -> Rates:
    line = price_line(tariff.house, price_list, model) or _card(tariff, model) or FREE
    cached = line.input_token if line.cached_token is None else line.cached_token
    return Rates(
        _nano(line.input_token),
        _nano(cached),
        _nano(line.output_token),
        _nano(line.gpu_second) / NS,
        _nano(line.gib_second) / KIB_MS,
        _nano(line.request),
    )


def _card(tariff: Tariff, model: str) -> PriceLine | None:
    price = tariff.cards.get(model)
    return card_price(ModelRoute(model_id=model, price=price)) if price else None


def _nano(price: Decimal) -> Fraction:
    return Fraction(price) * NANO

"""Each line is exact and rounded once, by the prices of its time."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.billing.pricing import TARIFFS_MAX, Prices, Tariff, cost_of, with_prices
from models.store.tenancy import NANO, HouseRecord, PriceLine, PriceList
from tests.gateway.billing.ledger import HOUSE, event

EXACT = Context(prec=200)
PRICE = st.decimals(0, 1000, allow_nan=False, allow_infinity=False, places=12)


@given(PRICE, st.integers(0, 10**15), st.sampled_from([1, 10**9, (1 << 20) * 1000]))
def test_costs_are_rounded_to_the_even_nano(price: Decimal, amount: int, per: int) -> None:
    cost = cost_of(Fraction(price) * NANO / per, amount)
    exact = EXACT.divide(EXACT.multiply(EXACT.multiply(price, Decimal(NANO)), Decimal(amount)), Decimal(per))
    assert abs(Decimal(cost) - exact) <= Decimal("0.5")
    if per == 1:
        assert Decimal(cost) == exact.quantize(Decimal(1), ROUND_HALF_EVEN, EXACT)


def test_halves_go_to_the_even_one() -> None:
    assert [cost_of(Fraction(1, 2), amount) for amount in (1, 3, 5, 7)] == [0, 2, 2, 4]


def house(version: int, price: str, **more: object) -> HouseRecord:
    line = PriceLine(model="m*", input_token=Decimal(price))
    return HouseRecord(price_lists={"l": PriceList(name="l", lines=(line,))}, version=version, **more)  # type: ignore[arg-type]


def prices(*tariffs: Tariff) -> Prices:
    return Prices(tariffs or (Tariff(since_us=0, house=HOUSE),))


def test_the_prices_of_when_it_ended() -> None:
    both = prices(Tariff(since_us=0, house=house(1, "1")), Tariff(since_us=5_000_000, house=house(2, "2")))
    for ended_us, version, nano in ((4_999_999, 1, 80), (5_000_000, 2, 160)):
        one = event("r", "x", ended_us - 10, 10, model="m1", price_list="l")
        assert both.lines(one, 0, 0, 0)["input_token"] == nano * NANO
        assert both.at(ended_us).house.version == version


def test_a_model_that_no_line_names_has_its_cards_price_or_is_free() -> None:
    known = prices(Tariff(since_us=0, house=house(1, "1"), cards={"x": {"output_token": "0.5"}}))
    lines = known.lines(event("r", "x", 0, 1, model="x", price_list="l"), 10**9, 0, 0)
    assert lines == {"output_token": 15 * NANO}
    assert known.lines(event("r", "x", 0, 1, model="y", price_list="gone"), 10**9, 0, 0) == {}


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_came_to_nothing_costs_nothing(status: int) -> None:
    assert prices().lines(event("r", "a", 0, 1, status=status), 10**9, 10**9, 10**9) == {}


@pytest.mark.parametrize("status", [400, 403, 404, 499])
def test_what_was_refused_before_it_ran_costs_nothing(status: int) -> None:
    assert prices().lines(event("r", "a", 0, 1, status=status, runs=()), 0, 0, 0) == {}


@pytest.mark.parametrize("status", [200, 400, 499])
def test_what_the_caller_ended_or_asked_wrongly_costs(status: int) -> None:
    lines = prices().lines(event("r", "a", 0, 1, status=status), 10**9, 0, 10**9)
    assert {"gpu_second", "start_gpu_second", "request"} < lines.keys()


def test_a_history_grows_only_by_changes() -> None:
    first = with_prices([], 100, house(1, "1"), {})
    assert first is not None
    assert first[0].since_us == 0, "there were no others before"
    assert with_prices(first, 200, house(1, "1"), {}) is None
    other_rule = house(1, "1", trusted_proxies=("10.0.0.0/8",))
    assert with_prices(first, 200, other_rule, {}) is None, "no price of it"
    second = with_prices(first, 200, house(2, "2"), {"m": {"request": "1"}})
    assert second is not None
    assert [one.since_us for one in second] == [0, 200]
    assert with_prices(second, 300, house(2, "2"), {}) is None, "a model that is gone keeps its card's price"
    third = with_prices(second, 150, house(3, "3"), {})
    assert third is not None
    assert third[-1].since_us == 200, "a clock that runs back"
    for version in range(4, 200):
        third = with_prices(third, version * 1000, house(version, "1"), {}) or third
    assert len(third) == TARIFFS_MAX

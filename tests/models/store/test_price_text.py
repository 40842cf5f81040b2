"""Prices are exact decimals of one unit, however they were written."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog.errors import WrongValue
from models.store.price_text import parse_price


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("0.0000025", "0.0000025"),
        ("2.50/1M", "0.0000025"),
        ("2.50 / M", "0.0000025"),
        ("10/1k", "0.01"),
        ("3.60/1h", "0.001"),
        ("3.60/h", "0.001"),
        ("6/2m", "0.05"),
        ("5/1000", "0.005"),
        (2, "2"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (Decimal("0.30"), "0.3"),
        ("0", "0"),
        ("1.5E-7", "0.00000015"),
        ("1e+2", "100"),
    ],
)
def test_what_can_be_written(written: object, price: str) -> None:
    assert parse_price(written) == Decimal(price)


@pytest.mark.parametrize(
    "written", ["", "free", "-1", "1/0", "1/", "1e", "1e999", "1,50", True, None, [1], float("nan")]
)
def test_what_cannot(written: object) -> None:
    with pytest.raises(WrongValue, match="is no price; write a decimal number"):
        parse_price(written)


@given(st.integers(0, 10**9), st.integers(0, 6))
def test_of_a_million_it_is_exact(cents: int, places: int) -> None:
    price = Decimal(cents).scaleb(-places)
    assert parse_price(f"{price:f}/1M") * 10**6 == price


@given(st.integers(0, 10**18))
def test_what_records_hold_is_read_back_the_same(units: int) -> None:
    price = parse_price(Decimal(units).scaleb(-18))
    assert parse_price(str(price)) == price == Decimal(units).scaleb(-18)


@given(st.integers(1, 10**6))
def test_of_an_hour_nothing_is_off_by_a_billionth_in_a_thousand_hours(cents: int) -> None:
    price = Decimal(cents) / 100
    assert abs(parse_price(f"{price:f}/1h") * 3600 * 1000 - price * 1000) < Decimal("1e-9")

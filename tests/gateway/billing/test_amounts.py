"""Whole units as decimals: exact both ways."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.billing.amounts import KIB_MS_IN_GIB_S, exact, gib_seconds, grouped, payable, plain, seconds

NANO = st.integers(-(2**63), 2**63)


@given(NANO)
def test_an_amount_can_be_read_back_exactly(nano: int) -> None:
    assert Decimal(exact(nano)) * 10**9 == nano
    assert Decimal(seconds(nano)) * 10**9 == nano
    assert "E" not in exact(nano)


@pytest.mark.parametrize(
    ("nano", "shown"),
    [(0, "0.00"), (1, "0.000000001"), (12_500_000_000, "12.50"), (-3_000_000_000, "-3.00"), (120, "0.00000012")],
)
def test_amounts_have_at_least_two_decimals(nano: int, shown: str) -> None:
    assert exact(nano) == shown


@pytest.mark.parametrize(
    ("nano", "currency", "shown"),
    [
        (1_005_000_000, "USD", "1.00"),  # half to even
        (1_015_000_000, "EUR", "1.02"),
        (1_015_000_001, "usd", "1.02"),
        (1_500_000_000, "JPY", "2"),
        (1_234_500_000, "KWD", "1.234"),
        (2**63, "USD", "9223372036.85"),
        (0, "USD", "0.00"),
    ],
)
def test_what_is_due_is_rounded_once_to_the_smallest_coin(nano: int, currency: str, shown: str) -> None:
    assert payable(nano, currency) == shown


def test_memory_time_is_rounded_to_the_millionth() -> None:
    assert gib_seconds(KIB_MS_IN_GIB_S * 90) == "90"
    assert gib_seconds(KIB_MS_IN_GIB_S // 4) == "0.25"
    assert gib_seconds(1) == "0"
    assert gib_seconds(2**63) == "8796093022.208"


def test_plain_numbers_have_no_exponent() -> None:
    assert [plain(Decimal(text)) for text in ("1E+3", "2.50", "0E-9", "1E-9")] == ["1000", "2.5", "0", "0.000000001"]


def test_digits_are_grouped() -> None:
    assert grouped("1234567.891") == "1,234,567.891"
    assert grouped("12") == "12"
    assert grouped("-0.50") == "-0.50"

"""Whole units of the books as decimals for people and other programs: always exact unless a name says otherwise."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

NS_IN_S_DIGITS = 9
KIB_MS_IN_GIB_S = (1 << 20) * 1000
# Currencies that are not paid in hundredths (ISO 4217).
_MINOR_DIGITS = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
_EXACT = Context(prec=60)


def exact(nano: int) -> str:
    """Of the currency: ``12.50``, ``0.000000001``; at least two decimals."""
    return _shortened(Decimal(nano).scaleb(-9, _EXACT), least=2)


def payable(nano: int, currency: str) -> str:
    """As it can be paid: rounded half to even, once, to the currency's smallest coin."""
    digits = _MINOR_DIGITS.get(currency.upper(), 2)
    amount = Decimal(nano).scaleb(-9, _EXACT)
    return format(amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN, _EXACT), "f")


def seconds(ns: int) -> str:
    return _shortened(Decimal(ns).scaleb(-NS_IN_S_DIGITS, _EXACT), least=0)


def gib_seconds(kib_ms: int) -> str:
    """Rounded to the millionth."""
    found = (Decimal(kib_ms) / KIB_MS_IN_GIB_S).quantize(Decimal("0.000001"), ROUND_HALF_EVEN, _EXACT)
    return _shortened(found, least=0)


def plain(amount: Decimal) -> str:
    """Without an exponent, or zeros at its end."""
    return _shortened(amount, least=0)


def grouped(number: str) -> str:
    """``1234567.5`` as ``1,234,567.5``."""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.lstrip("-") != "0" else number


def _shortened(amount: Decimal, least: int) -> str:
    """Without zeros at its end; ``least``: decimals that stay."""
    whole, _, rest = format(amount, "f").partition(".")
    rest = rest.rstrip("0").ljust(least, "0")
    return f"{whole}.{rest}" if rest else whole

"""Prices as people write them: ``0.0000025``, ``2.50/1M`` of a million of a unit, ``3.60/1h`` of an hour of seconds."""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

from models.catalog.errors import WrongValue

PLACES = 18  # after the point, of one unit: over a million hours the rest is a billionth of the currency
_PRICE = re.compile(
    r"([0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?)(?:\s*/\s*(?=\S)([0-9]{0,9})\s*([kKMGhms]?))?", re.ASCII
)
_TIMES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "h": 3600, "m": 60, "s": 1}
_HOW = "write a decimal number such as 0.0000025, or 2.50/1M for a million, or 3.60/1h for an hour of seconds"


def parse_price(value: object) -> Decimal:
    """Of one unit, exact to PLACES. A number counts by its text: 0.1 as a binary fraction is not what was written.
    ``1.5E-7``, as JSON has small ones, is read as well.

    Raises WrongValue.
    """
    text = str(value).strip() if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""
    if isinstance(value, float):
        text = format(Decimal(str(value)), "f")
    found = _PRICE.fullmatch(text)
    of = int(found[2] or 1) * _TIMES[found[3] or ""] if found else 0
    if found is None or of == 0:
        raise WrongValue(f"{str(value)[:40]!r} is no price", _HOW)
    with localcontext() as context:
        context.prec = 80
        price = Decimal(found[1]) / of
        return plain(price.quantize(Decimal(1).scaleb(-PLACES)))


def plain(price: Decimal) -> Decimal:
    """Without zeros at its end, and without an exponent."""
    return Decimal(format(price.normalize(), "f"))

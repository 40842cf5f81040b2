"""Limits as people write them: ``requests=100/1m``, ``money=25/month``, ``tokens=1M/day:soft@50%,80% for org/*``.

``WHAT=AMOUNT/PER``, then ``:soft`` where it is only told of, ``@`` the shares at which it is, ``for`` the models that
count. ``concurrent=8`` has no PER.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import NoReturn

from models.catalog.errors import WrongValue
from models.catalog.units import format_seconds
from models.store.tenancy import CALENDAR, MOST_UNITS, UNITS_OF, LimitRule, What

SHORTEST_S, LONGEST_S = 1, 31 * 86_400
LONGEST_PATTERN = 200
_EXAMPLE = "write WHAT=AMOUNT/PER such as requests=100/1m, tokens=1M/day:soft@50%,80% or concurrent=8"
_LIMIT = re.compile(
    r"(?P<what>[a-z_-]+)\s*=\s*(?P<amount>[0-9._]+)(?P<times>[kKMGT]?)(?:/(?P<per>[0-9a-z]+))?"
    r"(?::(?P<kind>[a-z]+))?(?:@(?P<shares>[0-9.,%\s]+?))?(?:\s+for\s+(?P<models>\S+))?",
    re.ASCII,
)
_TIMES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LENGTH = re.compile(r"([0-9]{1,8})([smhd])", re.ASCII)
_WORDS = {"second": "1s", "minute": "1m", "hour": "1h"}
_MODELS = re.compile(r"[A-Za-z0-9._:@+/*?\[\]!-]+", re.ASCII)


def parse_limit(text: str) -> LimitRule:
    """Raises WrongValue, which says what of it is wrong and how it is written."""
    found = _LIMIT.fullmatch(text.strip())
    if found is None:
        _refuse(f"{text.strip()[:80]!r} is not a limit", _EXAMPLE)
    what = _what(found["what"])
    kind = found["kind"]
    if kind not in (None, "hard", "soft"):
        _refuse(f"{kind!r} is no kind of limit", "write :hard, which refuses, or :soft, which only tells")
    rule = LimitRule(
        what=what,
        amount=_amount(found["amount"], _TIMES[found["times"]]),
        per=_per(what, found["per"]),
        models=found["models"] or "*",
        hard=kind != "soft",
        alert_at=_shares(found["shares"]),
    )
    check_limit(rule)
    return rule


def limit_text(rule: LimitRule) -> str:
    """``parse_limit`` reads it back."""
    per = f"/{rule.per}" if rule.per else ""
    shares = ",".join(f"{share * 100:.6g}%" for share in rule.alert_at)
    models = "" if rule.models == "*" else f" for {rule.models}"
    amount = format(rule.amount, "f")
    return f"{rule.what}={amount}{per}{'' if rule.hard else ':soft'}{f'@{shares}' if shares else ''}{models}"


def check_limit(rule: LimitRule) -> None:
    """Of one that was not parsed here. Raises WrongValue."""
    amount, what = rule.amount, rule.what
    if not amount.is_finite() or amount < 0:
        _refuse(f"{str(amount)[:40]} is no amount", "write a number, 0 or more")
    if what not in UNITS_OF and amount != amount.to_integral_value():
        _refuse(f"{amount} {what} cannot be counted", "write a whole number")
    if rule.units > MOST_UNITS:
        _refuse(f"{amount} {what} is more than can be counted exactly", f"write at most {_most(what)}")
    if what is What.CONCURRENT and rule.per:
        _refuse("concurrent has no window: it is of requests at once", "write concurrent=8")
    if what is not What.CONCURRENT:
        window_s(rule.per)
    if not rule.models or len(rule.models) > LONGEST_PATTERN or not _MODELS.fullmatch(rule.models):
        _refuse(f"{rule.models[:60]!r} is no pattern of models", "write a model's id, or a pattern such as org/*")
    if any(not 0 < share <= 1 for share in rule.alert_at) or sorted(set(rule.alert_at)) != list(rule.alert_at):
        _refuse("shares to tell at are above 0 and at most 1, each greater than the one before", "write @50%,80%")
    if not rule.hard and not rule.alert_at:
        _refuse("a soft limit refuses nothing, and this one tells nobody either", "say at which shares: :soft@80%,100%")


def check_limits(rules: tuple[LimitRule, ...]) -> None:
    """All of one place together. Raises WrongValue with the index."""
    names: dict[str, int] = {}
    for index, rule in enumerate(rules):
        try:
            check_limit(rule)
        except WrongValue as wrong:
            raise WrongValue(wrong.message, wrong.cure, at=f"[{index}]") from None
        first = names.setdefault(rule.name, index)
        if first != index:
            said = f"{limit_text(rules[first])} and {limit_text(rule)} limit the same"
            raise WrongValue(said, "keep one of them", at=f"[{index}]")


def window_s(per: str) -> int | None:
    """Seconds of a sliding window; None: the calendar's. Raises WrongValue."""
    if per in CALENDAR:
        return None
    found = _LENGTH.fullmatch(per)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not SHORTEST_S <= seconds <= LONGEST_S:
        cure = "write 1s to 31d such as 1m or 24h for any time of that length, or day, week, month, ever"
        _refuse(f"{per[:40]!r} is no window" if per else "it has no window", cure)
    return seconds


def _what(text: str) -> What:
    try:
        return What(text.replace("-", "_"))
    except ValueError:
        _refuse(f"{text!r} cannot be limited", f"choose from {', '.join(What)}")


def _amount(text: str, times: int) -> Decimal:
    try:
        amount = Decimal(text) * times
    except InvalidOperation:
        _refuse(f"{text[:40]!r} is no amount", "write a number such as 100, 2.5 or 10k")
    return amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount.normalize()


def _per(what: What, text: str | None) -> str:
    if text is None:
        if what is not What.CONCURRENT:
            _refuse(f"{what} needs a window", f"write {what}=AMOUNT/PER, PER such as 1m, 24h, day or month")
        return ""
    if what is What.CONCURRENT or text in CALENDAR:
        return text
    # One name for each length: 60s and 1m are the same window.
    return format_seconds(window_s(_WORDS.get(text, text)) or 0)


def _shares(text: str | None) -> tuple[float, ...]:
    return () if text is None else tuple(_share(part.strip()) for part in text.split(","))


def _share(text: str) -> float:
    try:
        share = Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except InvalidOperation:
        _refuse(f"{text[:20]!r} is no share", "write 80% or 0.8")
    return float(share)


def _most(what: What) -> str:
    return str(MOST_UNITS // UNITS_OF.get(what, 1))


def _refuse(message: str, cure: str) -> NoReturn:
    raise WrongValue(message, cure)

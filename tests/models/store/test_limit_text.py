"""Limits as people write them: what can be read, what is said of what cannot, and that nothing is lost on the way."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog.errors import WrongValue
from models.store.limit_text import check_limit, check_limits, limit_text, parse_limit, window_s
from models.store.tenancy import CALENDAR, MOST_UNITS, UNITS_OF, LimitRule, What


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("requests=100/1m", LimitRule(what=What.REQUESTS, amount=Decimal(100))),
        (" requests = 100/60s ", LimitRule(what=What.REQUESTS, amount=Decimal(100))),
        ("requests=100/minute", LimitRule(what=What.REQUESTS, amount=Decimal(100))),
        ("input-tokens=10k/1h", LimitRule(what=What.INPUT_TOKENS, amount=Decimal(10_000), per="1h")),
        ("output_tokens=1.5M/24h", LimitRule(what=What.OUTPUT_TOKENS, amount=Decimal(1_500_000), per="24h")),
        ("requests=7/1d", LimitRule(what=What.REQUESTS, amount=Decimal(7), per="24h")),
        ("money=25.00/month:hard", LimitRule(what=What.MONEY, amount=Decimal(25), per="month")),
        ("gpu_seconds=0.5/week", LimitRule(what=What.GPU_SECONDS, amount=Decimal("0.5"), per="week")),
        ("concurrent=8", LimitRule(what=What.CONCURRENT, amount=Decimal(8), per="")),
        (
            "tokens=1000/day:soft@0.5,80% for org/*",
            LimitRule(
                what=What.TOKENS, amount=Decimal(1000), per="day", models="org/*", hard=False, alert_at=(0.5, 0.8)
            ),
        ),
        ("money=5/ever@100%", LimitRule(what=What.MONEY, amount=Decimal(5), per="ever", alert_at=(1.0,))),
    ],
)
def test_what_can_be_written(text: str, rule: LimitRule) -> None:
    assert parse_limit(text) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a limit; write WHAT=AMOUNT/PER"),
        ("100 requests", "is not a limit"),
        ("request=1/1m", "'request' cannot be limited; choose from requests"),
        ("requests=1", "requests needs a window; write requests=AMOUNT/PER"),
        ("requests=1.5/1m", "cannot be counted; write a whole number"),
        ("requests=1.2.3/1m", "is no amount"),
        ("requests=1/0s", "is no window; write 1s to 31d"),
        ("requests=1/32d", "is no window"),
        ("requests=1/fortnight", "is no window"),
        ("concurrent=5/1m", "concurrent has no window"),
        ("tokens=4/day:soft", "this one tells nobody either"),
        ("tokens=4/day:mild", "'mild' is no kind of limit"),
        ("tokens=4/day@0", "shares to tell at are above 0"),
        ("tokens=4/day@80%,50%", "each greater than the one before"),
        ("tokens=4/day@150%", "at most 1"),
        ("tokens=4/day for a b", "is not a limit"),
        ("money=99999999999/month", "more than can be counted exactly; write at most 9007199"),
    ],
)
def test_what_cannot(text: str, said: str) -> None:
    with pytest.raises(WrongValue) as caught:
        parse_limit(text)
    assert said in str(caught.value)


def test_of_two_that_limit_the_same_one_is_named_by_its_place() -> None:
    rules = tuple(map(parse_limit, ("tokens=1/1m", "requests=1/1m", "requests=2/60s")))
    with pytest.raises(WrongValue) as caught:
        check_limits(rules)
    assert (caught.value.at, "requests=2/1m limit the same" in str(caught.value)) == ("[2]", True)
    check_limits(tuple(map(parse_limit, ("requests=1/1m", "requests=2/60s for a", "requests=3/1m:soft@50%"))))


def test_windows_are_lengths_or_the_calendars() -> None:
    assert [window_s(per) for per in ("1s", "90s", "5m", "1h", "24h")] == [1, 90, 300, 3600, 86_400]
    assert [window_s(per) for per in CALENDAR] == [None] * 4
    for wrong in ("", "1", "m", "1w", "-1s", "1.5h"):
        with pytest.raises(WrongValue):
            window_s(wrong)


whats = st.sampled_from(What)


@st.composite
def rules(draw: st.DrawFn) -> LimitRule:
    what = draw(whats)
    places = 9 if what is What.MONEY else 6 if what in UNITS_OF else 0
    most = MOST_UNITS // UNITS_OF.get(what, 1)
    amount = draw(st.decimals(0, most, places=places, allow_nan=False, allow_infinity=False))
    seconds = draw(st.integers(1, 86_400))
    per = "" if what is What.CONCURRENT else draw(st.sampled_from((*CALENDAR, "window")))
    shares = sorted(draw(st.sets(st.integers(1, 100), max_size=3)))
    hard = draw(st.booleans()) or not shares
    text = f"{what}={amount:f}{f'/{seconds}s' if per == 'window' else f'/{per}' if per else ''}"
    text += "" if hard else ":soft"
    text += f"@{','.join(f'{share}%' for share in shares)}" if shares else ""
    return parse_limit(text + draw(st.sampled_from(("", " for org/*", " for llama-3.1:8b"))))


@given(rules())
def test_what_is_written_out_is_read_back_the_same(rule: LimitRule) -> None:
    check_limit(rule)
    assert parse_limit(limit_text(rule)) == rule
    assert parse_limit(limit_text(rule)).units == rule.units

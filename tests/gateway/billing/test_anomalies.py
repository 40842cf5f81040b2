"""What is unusual for a key: compared with its own past, robustly."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gateway.billing.anomalies import DAYS, FLOORS, KeyUse, anomalies, by_key, is_unusual, usual, words

NOON = 20_500 * 24 + 12  # an hour, counted since 1970
FLOOR = FLOORS["requests"]


def every_hour(used: int, days: int = DAYS) -> dict[int, int]:
    return {NOON - back: used for back in range(1, days * 24 + 1)}


def at_hours(hours: Iterable[int], used: int) -> dict[int, int]:
    return dict.fromkeys(hours, used)


def test_of_a_steady_key_any_hour_is_as_usual_as_the_others() -> None:
    assert usual(every_hour(100), NOON) == 100


def test_a_nightly_batch_is_usual_at_night_and_not_at_noon() -> None:
    nightly = at_hours((NOON - day * 24 for day in range(1, 8)), 50_000)
    past = every_hour(100) | nightly
    assert usual(past, NOON) == 50_000
    assert usual(past, NOON + 1) == 100


def test_who_comes_seldom_is_measured_by_the_hours_in_which_it_came() -> None:
    weekdays = at_hours((NOON - day * 24 - 3 for day in range(1, 8)), 7_000)
    assert usual(weekdays, NOON) == 7_000


def test_one_wild_hour_does_not_make_the_next_one_usual() -> None:
    wild = every_hour(100) | {NOON - 1: 10**9, NOON - 2: 10**9}
    assert usual(wild, NOON) == 100


def test_nothing_is_said_of_a_key_that_is_new() -> None:
    assert usual(at_hours(range(NOON - 5, NOON), 10), NOON) is None
    assert usual(at_hours(range(NOON - 6, NOON), 10), NOON) == 10
    assert usual({}, NOON) is None


def test_what_was_long_ago_or_comes_later_does_not_count() -> None:
    old = at_hours(range(NOON - 500, NOON - 200), 9_999)
    assert usual(old, NOON) is None
    assert usual(old | every_hour(5) | {NOON: 10**6, NOON + 1: 10**6}, NOON) == 5


def test_ten_times_as_much_is_unusual_and_a_little_is_not_whatever_the_factor() -> None:
    assert is_unusual(1_000, 100, FLOOR)
    assert not is_unusual(999, 100, FLOOR)
    assert not is_unusual(FLOOR - 1, 1, FLOOR)


@given(st.dictionaries(st.integers(NOON - 24 * DAYS, NOON - 1), st.integers(0, 10**9), max_size=60))
def test_usual_lies_within_what_was(past: dict[int, int]) -> None:
    found = usual(past, NOON)
    active = [used for used in past.values() if used]
    assert (found is None) == (len(active) < 6)
    if found is not None:
        assert min(active) <= found <= max(active)


def use(requests: int = 0, tokens: int = 0, cost: int = 0) -> KeyUse:
    return KeyUse("acme", "web", {"requests": requests, "tokens": tokens, "cost": cost})


def test_the_worst_of_a_key_is_told_once_and_others_are_left_alone() -> None:
    past = {at: {"calm": use(100, 10_000), "wild": use(100, 10_000), "busy": use(10**6, 10**9)} for at in every_hour(1)}
    now = {
        "calm": use(300, 40_000),
        "wild": use(1_500, 900_000),
        "busy": use(2 * 10**6, 2 * 10**9),
        "new": use(10**6, 10**9),
    }
    (told,) = anomalies(now, past, NOON)
    assert (told.key_id, told.metric, told.used, told.usual, told.times) == ("wild", "tokens", 900_000, 10_000, 90)
    assert (told.tenant, told.project, told.hour) == ("acme", "web", NOON * 3600)


def test_money_that_was_never_spent_is_unusual_by_itself() -> None:
    past = {at: {"k": use(100, 10_000, 0)} for at in every_hour(1)}
    assert anomalies({"k": use(100, 10_000, 50 * 10**9)}, past, NOON) == []  # it had no price: nothing is known
    past = {at: {"k": use(100, 10_000, 10**7)} for at in every_hour(1)}
    (told,) = anomalies({"k": use(100, 10_000, 50 * 10**9)}, past, NOON)
    assert (told.metric, told.times) == ("cost", 5_000)


def test_models_of_a_key_are_one_use() -> None:
    sums = {"requests": 2, "prompt_tokens": 30, "completion_tokens": 4, "cost": 5, "gpu_ns": 9}
    found = by_key([("acme", "web", "k", sums), ("acme", "web", "k", sums), ("acme", "web", "", sums)])
    assert found == {"k": use(4, 68, 10)}


def test_words_say_what_to_do() -> None:
    past = {at: {"k": use(100, cost=10**7)} for at in every_hour(1)}
    (told,) = anomalies({"k": use(5_000)}, past, NOON)
    said = words(told, "EUR")
    assert "the key k of tenant acme used 5,000 requests in the hour from 2026-02-16 12:00Z, 50 times" in said
    assert "roundhouse keys revoke k" in said
    (told,) = anomalies({"k": use(5_000, cost=25 * 10**9)}, past, NOON)
    assert "2500 times its usual 0.01 EUR" in words(told, "EUR")

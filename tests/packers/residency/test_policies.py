"""What each policy thinks a copy is worth."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.residency import RESIDENCY, Tier
from packers.residency.hybrid import KEEP_S, recall, window
from packers.residency.ours import cost_s
from tests.packers.residency.past import stay, usage, used


def value(
    policy: str, name: str = "a", *, times_s: tuple[float, ...] = (0.0,), now_s: float = 1_000.0, **more: float
) -> float:
    one = used(name, times_s, disk_s=more.get("disk_s", 12.0), host_s=more.get("host_s", 2.0))
    tier = Tier.HOST if more.get("asleep") else Tier.GPU
    mib = int(more.get("mib", 60))
    return RESIDENCY[policy].worth(one, stay(now_s, times_s[-1], tier=tier, mib=mib, since_s=more.get("since_s", 0.0)))


def test_lru_looks_at_the_last_use_alone() -> None:
    assert value("lru", times_s=(5.0, 6.0, 7.0), mib=1) < value("lru", times_s=(8.0,), mib=1_000)


def test_ttl_counts_down() -> None:
    assert value("ttl", times_s=(900.0,)) == 500.0
    assert value("ttl", times_s=(100.0,)) == -300.0


def test_gdsf_likes_the_small_the_often_used_and_the_slow_to_start() -> None:
    often = tuple(range(0, 900, 10))
    assert value("gdsf", mib=6_000) < value("gdsf", mib=600)
    assert value("gdsf", times_s=(890.0,)) < value("gdsf", times_s=often)
    assert value("gdsf", host_s=1.0) < value("gdsf", host_s=4.0)


def test_rate_is_seconds_of_start_saved_per_second() -> None:
    often = tuple(range(0, 9_000, 10))
    assert value("rate", times_s=often, now_s=9_000.0) == pytest.approx(0.1 * 12.0, rel=0.02)
    assert value("rate", times_s=often, now_s=9_000.0, asleep=1) == pytest.approx(0.1 * 10.0, rel=0.02)


def test_hybrid_knows_when_a_model_is_due() -> None:
    hourly = used("cron", range(0, 30 * 3_600, 3_600))
    last_s = 29 * 3_600.0
    head_s, tail_s = window(hourly.usage.gaps)
    assert 0.6 * 3_600 < head_s < 3_600 < tail_s < 2 * 3_600
    assert not recall(hourly, last_s + 60, last_s)
    assert recall(hourly, last_s + 3_500, last_s)
    assert not recall(hourly, last_s + 9_000, last_s)
    worth = RESIDENCY["hybrid"].worth
    assert worth(hourly, stay(last_s + 60, last_s)) < 0 < worth(hourly, stay(last_s + 3_500, last_s))


def test_hybrid_keeps_what_it_knows_little_of_for_four_hours() -> None:
    assert window(usage([0.0, 3_600.0]).gaps) == (0.0, KEEP_S)
    new = used("new", [0.0])
    assert (
        RESIDENCY["hybrid"].worth(new, stay(KEEP_S - 1, 0.0))
        > 0
        > RESIDENCY["hybrid"].worth(new, stay(KEEP_S + 1, 0.0))
    )
    assert not recall(new, 60.0, 0.0)


def test_hybrid_does_not_let_go_what_is_used_all_the_time() -> None:
    assert window(usage(range(100)).gaps)[0] == 0.0


def test_ours_counts_the_tier_that_a_copy_would_fall_to() -> None:
    sleeps, stops = used("a", range(100)), used("a", range(100), can_sleep=False)
    worth = RESIDENCY["ours"].worth
    gpu, host = stay(150.0, 99.0), stay(150.0, 99.0, tier=Tier.HOST)
    assert worth(stops, gpu) > worth(sleeps, gpu)
    assert worth(sleeps, gpu) + worth(sleeps, host) == pytest.approx(worth(stops, gpu))


def test_ours_counts_the_others_of_a_burst() -> None:
    alone, burst = used("a", range(0, 900, 30)), used("b", [t for n in range(0, 900, 30) for t in (n, n, n, n)])
    assert cost_s(burst, 12.0) > cost_s(alone, 12.0) + 9
    assert cost_s(burst, 0.0) == cost_s(alone, 0.0)


@pytest.mark.parametrize("policy", sorted(RESIDENCY))
@pytest.mark.parametrize("tier", list(Tier))
def test_what_was_used_lately_is_worth_more_than_the_same_unused_since(policy: str, tier: Tier) -> None:
    one = used("a", [0.0, 1.0])
    worths = [RESIDENCY[policy].worth(one, stay(now_s, 1.0, tier=tier)) for now_s in (10.0, 100.0, 1_000.0, 10_000.0)]
    if policy in ("lru", "gdsf"):
        assert len(set(worths)) == 1, "no clock: only others' uses make it cheaper"
    else:
        assert all(later < earlier for earlier, later in pairwise(worths))


@given(st.lists(st.floats(0, 1e5), max_size=30), st.floats(0, 1e6), st.sampled_from(sorted(RESIDENCY)))
def test_worths_are_numbers_and_those_that_add_up_are_never_negative(
    times_s: list[float], idle_s: float, policy: str
) -> None:
    one = used("a", sorted(times_s))
    last_s = max(times_s, default=0.0)
    for tier in Tier:
        worth = RESIDENCY[policy].worth(one, stay(last_s + idle_s, last_s, tier=tier))
        assert worth == worth
        assert worth >= 0 or not RESIDENCY[policy].adds_up


def test_a_copy_of_no_catalog_is_worth_least() -> None:
    for policy in RESIDENCY.values():
        known = policy.value(used("a", [0.0]), stay(10.0, 0.0))
        assert policy.value(None, stay(10.0, 0.0)) <= known

"""So many failures within a while: never said too soon, and never missed for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.abuse.failures import SLOTS, Failures


def test_so_many_within_the_while() -> None:
    failures = Failures()
    assert [failures.add("a", 100.0 + n, 5, 10.0) for n in range(5)] == [False] * 4 + [True]


def test_afterwards_it_is_counted_anew() -> None:
    failures = Failures()
    said = [failures.add("a", 100.0, 3, 10.0) for _ in range(6)]
    assert said == [False, False, True] * 2


def test_fewer_than_that_never_count_however_long_it_goes_on() -> None:
    failures = Failures()
    assert not any(failures.add("a", 2.6 * n, 5, 10.0) for n in range(1000))


def test_each_is_counted_alone() -> None:
    failures = Failures()
    assert not any(failures.add(who, 1.0, 3, 10.0) for who in "abababcd"[:4])


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    failures = Failures(most_watched=100)
    failures.add("first", 0.0, 3, 10.0)
    for number in range(10_000):
        failures.add(f"a{number}", 1.0, 3, 10.0)
    assert len(failures) == 100
    assert [failures.add("first", 1.0, 3, 10.0) for _ in range(3)] == [False, False, True]


def test_another_rule_begins_anew() -> None:
    failures = Failures()
    failures.add("a", 1.0, 2, 10.0)
    assert not failures.add("a", 1.0, 2, 5.0)
    assert failures.add("a", 1.0, 2, 5.0)


@given(
    gaps_s=st.lists(st.floats(0, 8), max_size=60),
    most=st.integers(2, 8),
    within_s=st.sampled_from([1.0, 10.0, 60.0]),
)
def test_it_is_true_and_hardly_late(gaps_s: list[float], most: int, within_s: float) -> None:
    failures, now_s, times = Failures(), 1000.0, list[float]()
    for gap_s in gaps_s:
        now_s += gap_s
        times.append(now_s)
        said = failures.add("a", now_s, most, within_s)
        lately = [at_s for at_s in times if at_s > now_s - within_s]
        for_certain = [at_s for at_s in times if at_s > now_s - within_s * (SLOTS - 1) / SLOTS + 1e-6]
        if said:
            assert len(lately) >= most
            times.clear()
        else:
            assert len(for_certain) < most

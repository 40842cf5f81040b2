"""No swap storms, and nobody waits for ever: a world of one GPU against an adversary that chooses who comes next."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from packers.residency.patience import DEFAULT_PATIENCE_S, overdue, overdue_after_s, rank, settled
from packers.types import StartTimes
from tests.packers.worlds import model

START_S = 2.0
SERVE_S = 1.0


def test_a_replica_stays_as_long_as_its_start_took_and_serves_once() -> None:
    assert not settled(100.0, 100.5, START_S, 101.9)
    assert settled(100.0, 100.5, START_S, 102.0)
    assert not settled(100.0, 0.0, START_S, 102.0), "it has not served yet"
    assert settled(100.0, 0.0, START_S, 104.0), "and nobody comes"


def test_patience_covers_two_starts() -> None:
    assert overdue_after_s(model("a"), 30.0) == 30.0
    slow = replace(model("slow"), startup=StartTimes(60.0, 3.0))
    assert overdue_after_s(slow, 30.0) == 120.0
    assert overdue(slow, 120.0, 30.0)
    assert not overdue(slow, 119.9, 30.0)


def test_the_overdue_come_first_whatever_their_priority() -> None:
    late, later, vip, plain = model("late"), model("later"), model("vip", priority=9), model("plain")
    order = sorted(
        [(vip, 5.0), (plain, 20.0), (late, 40.0), (later, 50.0)], key=lambda need: rank(need[0], need[1], 30.0)
    )
    assert [one.id for one, _ in order] == ["later", "late", "vip", "plain"]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 3.0)), min_size=1, max_size=200))
def test_under_any_order_nobody_waits_for_ever_and_half_the_time_is_not_spent_on_starts(
    moves: list[tuple[int, float]],
) -> None:
    """Six models share one GPU that holds one of them; the higher the number, the higher the priority."""
    models = [model(f"m{number}", priority=number) for number in range(6)]
    waits_since: dict[int, float] = {}
    now_s, owner, ready_s, used_s, served_s = 0.0, -1, 0.0, 0.0, 0.0
    started_s = 0.0
    longest_s = 0.0
    for number, pause_s in moves:
        if number == owner:
            used_s, served_s = now_s, max(served_s, now_s + SERVE_S)
        else:
            waits_since.setdefault(number, now_s)
        now_s += pause_s
        while waits_since:
            free = now_s >= served_s and now_s >= ready_s
            first = min(waits_since, key=lambda one: rank(models[one], now_s - waits_since[one], DEFAULT_PATIENCE_S))
            late = overdue(models[first], now_s - waits_since[first], DEFAULT_PATIENCE_S)
            if not free or (owner >= 0 and not late and not settled(ready_s, used_s, START_S, now_s)):
                break
            longest_s = max(longest_s, now_s - waits_since.pop(first))
            owner, ready_s = first, now_s + START_S
            started_s += START_S
            used_s, served_s = ready_s + 0.001, ready_s + SERVE_S
    turn_s = START_S + SERVE_S + 3.0  # the adversary's longest pause between two looks
    assert longest_s <= overdue_after_s(models[0], DEFAULT_PATIENCE_S) + len(models) * turn_s
    assert started_s <= now_s / 2 + len(models) * turn_s

"""Times that can be moved: what is due, and what comes next."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from packers.timers import Timers


def test_due_keys_come_in_their_own_order_and_stay() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 9.0)
    timers.set("b", 2.0)
    timers.set("a", 3.0)
    assert timers.due(1.9) == []
    assert timers.due(3.0) == ["a", "b"] == timers.due(3.0)
    assert timers.next_after(3.0) == 9.0
    assert timers.next_after(9.0) is None
    assert timers.due(2.0) == ["b"], "times may be asked about in any order"


def test_a_key_that_moves_is_due_at_its_new_time_only() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 2.0)
    timers.set("a", 5.0)
    assert timers.due(4.0) == []
    timers.set("a", 2.0)
    assert timers.due(4.0) == ["a"]
    assert timers.next_after(0.0) == 2.0
    timers.set("a", None)
    timers.set("b", inf)
    assert timers.due(99.0) == []
    assert timers.next_after(0.0) is None


STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 20))), max_size=300)


@given(STEPS, st.integers(0, 20))
def test_it_answers_as_a_plain_table_would(steps: list[tuple[str, int | None]], now: int) -> None:
    timers: Timers[str] = Timers()
    table: dict[str, float] = {}
    for key, at in steps:
        timers.set(key, at)
        table.pop(key, None)
        if at is not None:
            table[key] = at
    assert timers.due(now) == sorted(key for key, at in table.items() if at <= now)
    assert timers.next_after(now) == min((at for at in table.values() if at > now), default=None)

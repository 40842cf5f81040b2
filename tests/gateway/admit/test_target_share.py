"""How much of a replica's time was each request's: equal parts of what passed while it was there."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.admit.target import Target
from packers.types import ReplicaId


def test_a_request_alone_has_all_of_it() -> None:
    target = Target(ReplicaId("r1"), "unix:/r1")
    began_s = target.share_until(10.0)
    target.flying = 1
    assert target.share_until(13.0) - began_s == 3.0


def test_two_share_the_time_that_they_are_there_together() -> None:
    target = Target(ReplicaId("r1"), "unix:/r1")
    first_s = target.share_until(0.0)
    target.flying = 1
    second_s = target.share_until(2.0)
    target.flying = 2
    assert target.share_until(4.0) - second_s == 1.0
    target.flying = 1
    assert target.share_until(5.0) - first_s == 2.0 + 1.0 + 1.0


def test_nothing_is_anybodys_while_nobody_is_there() -> None:
    target = Target(ReplicaId("r1"), "unix:/r1")
    before_s = target.share_until(0.0)
    assert target.share_until(100.0) == before_s


@given(st.lists(st.tuples(st.integers(1, 1000), st.booleans(), st.integers(0, 50)), max_size=60))
def test_the_parts_add_up_to_the_time_in_which_somebody_was_there(steps: list[tuple[int, bool, int]]) -> None:
    """Each step: milliseconds pass, then one comes or one of those there leaves."""
    target, parts, now_ms, busy_ms = Target(ReplicaId("r"), "unix:/r"), Fraction(0), 0, 0
    there: list[float] = []
    for passed_ms, comes, which in steps:
        now_ms += passed_ms
        busy_ms += passed_ms if there else 0
        shared_s = target.share_until(now_ms / 1000)
        if comes or not there:
            there.append(shared_s)
        else:
            parts += Fraction(shared_s) - Fraction(there.pop(which % len(there)))
        target.flying = len(there)
    parts += sum((Fraction(target.share_until(now_ms / 1000)) - Fraction(each) for each in there), Fraction(0))
    assert abs(float(parts) - busy_ms / 1000) < 1e-6

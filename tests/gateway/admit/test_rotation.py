"""What is held against replicas, and for how long."""

from __future__ import annotations

from gateway.admit.estimates import Pace, start_left_s
from gateway.admit.rotation import LONGEST_SUSPICION_S, Rotation
from packers.types import ReplicaId

A, B = ReplicaId("a"), ReplicaId("b")


def length_s(rotation: Rotation, now_s: float) -> float:
    """How long A is out from now on."""
    began_s = now_s
    while rotation.is_out(A):
        now_s += 0.25
        rotation.ended(now_s)
    return now_s - began_s


def test_a_suspect_is_left_alone_for_a_while_and_longer_each_time() -> None:
    rotation, lengths, now_s = Rotation(), [], 100.0
    for strikes in range(1, 7):
        assert rotation.suspect(A, now_s) == strikes
        lengths.append(length_s(rotation, now_s))
        now_s += 100.0
    assert lengths == [1.0, 2.0, 4.0, 8.0, LONGEST_SUSPICION_S, LONGEST_SUSPICION_S]


def test_what_breaks_while_it_is_out_says_nothing_new() -> None:
    rotation = Rotation()
    assert [rotation.suspect(A, 0.1 * number) for number in range(9)] == [1] * 9
    assert length_s(rotation, 0.0) == 1.0


def test_an_answer_ends_the_suspicion_and_what_was_before() -> None:
    rotation = Rotation()
    rotation.suspect(A, 0.0)
    assert rotation.trust(A)
    assert not rotation.trust(A)
    assert not rotation.is_out(A)
    assert rotation.suspect(A, 5.0) == 1, "it starts from the first second again"


def test_a_replica_whose_suspicion_is_over_is_in_but_remembered() -> None:
    rotation = Rotation()
    rotation.suspect(A, 0.0)
    assert rotation.ended(0.9) == []
    assert rotation.left_s(A, 0.4) == 0.6
    assert rotation.ended(1.0) == [A]
    assert rotation.ended(1.0) == []
    assert list(rotation) == [A]
    assert rotation.left_s(B, 0.0) == 0.0


def test_an_ejected_one_is_out_until_somebody_says_otherwise() -> None:
    rotation = Rotation()
    rotation.eject(A, 0.0)
    assert rotation.ended(1e6) == []
    assert rotation.is_out(A)
    assert rotation.is_ejected(A)
    assert rotation.readmit(A)
    assert not rotation.readmit(A)
    assert not rotation.is_out(A)
    assert rotation.suspect(A, 1e6) == 2, "an answered probe is no answered request"


def test_an_answered_request_lets_an_ejected_one_in() -> None:
    rotation = Rotation()
    rotation.suspect(A, 0.0)
    rotation.eject(A, 0.0)
    assert rotation.trust(A)
    assert not rotation.is_ejected(A)
    assert len(rotation) == 0


def test_nothing_is_held_against_others() -> None:
    rotation = Rotation()
    rotation.suspect(A, 0.0)
    assert not rotation.is_out(B)
    assert not rotation.readmit(B)
    rotation.forget(A)
    rotation.forget(B)
    assert not rotation.is_out(A)


def test_a_wait_is_estimated_from_how_long_places_are_taken() -> None:
    pace = Pace()
    assert pace.wait_s(5, 1) is None
    pace.took(4.0)
    assert pace.wait_s(0, 1) == 4.0
    assert pace.wait_s(3, 8) == 2.0
    assert pace.wait_s(3, 0) is None
    for _ in range(100):
        pace.took(1.0)
    assert pace.busy_s is not None
    assert 1.0 < pace.busy_s < 1.001, "what is long ago counts no more"


def test_what_is_left_of_a_start() -> None:
    assert start_left_s(30.0, 0.0) == 30.0
    assert start_left_s(30.0, 20.0) == 10.0
    assert start_left_s(30.0, 300.0) == 3.0

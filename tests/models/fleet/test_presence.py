"""When a silent node is away, and when it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fleet.presence import AWAY_AFTER_S, LOST_AFTER_S, SILENT_LOST_AFTER_S, Presence


def watch(given_up: bool | None, silent_s: float, step_s: float = 1.0) -> str:
    presence, now, state = Presence(0.0), 0.0, "there"
    while now < silent_s:
        now += step_s
        state = presence.look(now, given_up)
    return state


@pytest.mark.parametrize(
    ("given_up", "silent_s", "state"),
    [
        (True, 3, "there"),
        (True, 4, "away"),
        (True, 29, "away"),
        (True, 30, "lost"),
        (False, 59, "away"),
        (False, 60, "lost"),
        (None, 4, "away"),
        (None, 100_000, "away"),
    ],
)
def test_silence_is_judged_by_its_length_and_by_what_ray_says(given_up: bool | None, silent_s: int, state: str) -> None:
    assert watch(given_up, silent_s) == state


def test_an_answer_ends_the_silence() -> None:
    presence = Presence(0.0)
    for now in range(1, 26):
        presence.look(float(now), True)
    presence.answered(25.0)
    assert presence.look(26.0, True) == "there"
    assert presence.look(28.0, True) == "there"
    assert presence.look(29.0, True) == "away"


def test_time_in_which_nobody_looked_is_no_silence() -> None:
    presence = Presence(0.0)
    assert presence.look(1.0, True) == "there"
    assert presence.look(1000.0, True) == "there", "the whole process was suspended"
    assert presence.silent_s == 3.0


@given(st.lists(st.tuples(st.floats(0.01, 5.0), st.booleans(), st.sampled_from([True, False, None])), max_size=60))
def test_it_is_never_lost_sooner_than_it_was_silent_for_so_long(steps: list[tuple[float, bool, bool | None]]) -> None:
    presence, now, answered_s = Presence(0.0), 0.0, 0.0
    for step_s, answers, given_up in steps:
        now += step_s
        if answers:
            presence.answered(now)
            answered_s = now
        state = presence.look(now, given_up)
        silent_s = now - answered_s
        if silent_s < AWAY_AFTER_S:
            assert state == "there"
        if state == "lost":
            assert silent_s >= (LOST_AFTER_S if given_up else SILENT_LOST_AFTER_S)
            assert given_up is not None

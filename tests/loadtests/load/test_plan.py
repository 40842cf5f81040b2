"""Plans: phases, arrivals, and which of them are the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.load.plan import Arrival, Phase, Plan, Step, following, phase_at, poisson
from loadtests.load.wish import Wish

PHASES = following(("calm", 10.0, 1.0), ("spike", 20.0, 40.0), ("after", 10.0, 1.0))


def test_phases_follow_each_other() -> None:
    assert [(phase.from_s, phase.until_s) for phase in PHASES] == [(0, 10), (10, 30), (30, 40)]
    assert [phase_at(PHASES, at_s) for at_s in (-1.0, 0.0, 9.9, 10.0, 29.9, 30.0, 99.0)] == [0, 0, 0, 1, 1, 2, 2]


def test_arrivals_are_poisson_at_each_phases_rate() -> None:
    found = [at_s for seed in range(20) for at_s in poisson(PHASES, random.Random(seed))]
    spike = [at_s for at_s in found if 10 <= at_s < 30]
    assert len(spike) / 20 == pytest.approx(800, rel=0.03)
    assert (len(found) - len(spike)) / 20 == pytest.approx(20, rel=0.15)


@given(st.integers(0, 2**32), st.floats(0.1, 50))
def test_arrivals_are_in_order_and_inside(seed: int, rate: float) -> None:
    found = poisson([Phase("a", 5.0, 8.0, rate_per_s=rate), Phase("none", 8.0, 9.0)], random.Random(seed))
    assert found == sorted(found)
    assert all(5 <= at_s < 8 for at_s in found)


def test_a_digest_tells_whether_two_runs_asked_the_same() -> None:
    def plan(place: int) -> Plan:
        return Plan(PHASES, 40.0, (Arrival(1.0, Wish("m", place=place)),))

    assert plan(1).digest() == plan(1).digest() != plan(2).digest()


def test_kinds_of_plans() -> None:
    assert Plan(PHASES, 1.0).kind == "closed"
    assert Plan(PHASES, 1.0, (Arrival(0.0, Wish("m")),)).kind == "open"
    assert Plan(PHASES, 1.0, script=(Step(0.0, "tier"),)).kind == "script"


def test_users_of_a_closed_load() -> None:
    plan = Plan((Phase("few", 0.0, 5.0, users=2), Phase("many", 5.0, 9.0, users=30)), 9.0)
    assert [plan.users_at(at_s) for at_s in (0.0, 4.9, 5.0, 9.0)] == [2, 2, 30, 0]
    assert plan.most_users == 30


def test_what_is_asked_and_when_is_all_of_the_digest() -> None:
    arrivals = (Arrival(1.0, Wish("m")), Arrival(2.0, Wish("m")))
    plans = [
        Plan(PHASES, 40.0, arrivals),
        Plan(PHASES, 41.0, arrivals),
        Plan(PHASES[:2], 40.0, arrivals),
        Plan(PHASES, 40.0, arrivals[:1]),
        Plan(PHASES, 40.0, (arrivals[0], Arrival(2.5, Wish("m")))),
        Plan(PHASES, 40.0, (arrivals[0], Arrival(2.0, Wish("m", output_tokens=9)))),
        Plan(PHASES, 40.0, (arrivals[0], Arrival(2.0, Wish("m", blocks=(1,))))),
        Plan(PHASES, 40.0, arrivals, events=(Step(1.0, "kill", "engine"),)),
        Plan(PHASES, 40.0, script=(Step(1.0, "tier", "disk", "m"),)),
    ]
    assert len({plan.digest() for plan in plans}) == len(plans)


def test_nobody_arrives_in_a_phase_without_a_rate() -> None:
    quiet = following(("busy", 5.0, 20.0), ("silence", 5.0, 0.0), ("busy again", 5.0, 20.0))
    found = poisson(quiet, random.Random(1))
    assert not [at_s for at_s in found if 5 <= at_s < 10]
    assert [at_s for at_s in found if at_s >= 10]


@given(st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 30)), min_size=1, max_size=6))
def test_every_moment_is_of_one_phase(parts: list[tuple[float, float]]) -> None:
    phases = following(*((str(place), *part) for place, part in enumerate(parts)))
    for place, phase in enumerate(phases):
        assert phase_at(phases, (phase.from_s + phase.until_s) / 2) == place
        assert phase_at(phases, phase.from_s) == place

"""The two kinds of load that suites are made of."""

from __future__ import annotations

import random
from collections.abc import Sequence

from loadtests.load.plan import Arrival, Phase, Plan, Step, poisson
from loadtests.load.settings import Settings, SettingsError
from loadtests.load.wish import Mix


def open_load(
    settings: Settings, phases: Sequence[Phase], weights: Sequence[float] | None = None, events: Sequence[Step] = ()
) -> Plan:
    """Poisson arrivals, however slow the answers are. Raises SettingsError when nobody would arrive."""
    rng = random.Random(f"{settings.suite}/{settings.seed}")
    mix = Mix(settings, weights)
    arrivals = tuple(Arrival(at_s, mix.draw(rng)) for at_s in poisson(phases, rng))
    if not arrivals:
        raise SettingsError("nobody arrives in this time: give a higher rate, or a longer duration")
    return Plan(tuple(phases), phases[-1].until_s, arrivals, events=tuple(events))


def closed_load(settings: Settings, phases: Sequence[Phase] = (), events: Sequence[Step] = ()) -> Plan:
    """So many users, each asking again as soon as it has its answer."""
    whole = (Phase("steady", 0.0, settings.duration_s, users=settings.users),)
    chosen = tuple(phases) or whole
    return Plan(chosen, chosen[-1].until_s, events=tuple(events))

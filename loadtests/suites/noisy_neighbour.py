"""A quiet tenant at one rate throughout; in the middle third a noisy one at --factor times that, with its own key.

The quiet one's p99 with the noise over that without it is the figure (a promise: at most 1.5).
"""

from __future__ import annotations

import random
from typing import Any

from loadtests.load.plan import Arrival, Phase, Plan, following, poisson
from loadtests.load.settings import Settings, SettingsError
from loadtests.load.wish import Mix

QUIET, NOISY = "quiet", "noisy"
PRESET: dict[str, Any] = {"rate_per_s": 2.0, "factor": 10.0, "duration_s": 45.0}


def build(settings: Settings) -> Plan:
    third_s, rate = settings.duration_s / 3, settings.rate_per_s or 2.0
    phases = following(("alone", third_s, rate), ("noise", third_s, rate), ("alone again", third_s, rate))
    rng = random.Random(f"noisy-neighbour/{settings.seed}")
    mix = Mix(settings)
    noise = (Phase("noise", third_s, 2 * third_s, rate_per_s=rate * settings.factor),)
    found = [Arrival(at_s, mix.draw(rng, tenant=QUIET, tag=QUIET)) for at_s in poisson(phases, rng)]
    found += [Arrival(at_s, mix.draw(rng, tenant=NOISY, tag=NOISY)) for at_s in poisson(noise, rng)]
    if not found:
        raise SettingsError("nobody arrives in this time: give a higher rate, or a longer duration")
    return Plan(phases, settings.duration_s, tuple(sorted(found, key=lambda arrival: arrival.at_s)))

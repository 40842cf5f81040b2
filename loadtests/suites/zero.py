"""First hits: each model is brought to a tier, nobody else calls, and one request shows what the start costs.

Tiers: ``disk`` (no process), ``host`` (asleep), ``gpu`` (serving). Orders go to the admin API, so this takes a
Roundhouse and its admin key.
"""

from __future__ import annotations

import random
from typing import Any

from loadtests.load.plan import Phase, Plan, Step
from loadtests.load.settings import Settings, SettingsError
from loadtests.load.wish import Mix

TIERS = ("disk", "host", "gpu")
PRESET: dict[str, Any] = {"tiers": TIERS, "passes": 3, "duration_s": 600.0, "output_tokens": "fixed:8"}


def build(settings: Settings) -> Plan:
    unknown = [tier for tier in settings.tiers if tier not in TIERS]
    if unknown or not settings.tiers:
        raise SettingsError(f"tiers must be some of {', '.join(TIERS)}, not {', '.join(unknown) or 'none'}")
    rng = random.Random(f"zero/{settings.seed}")
    mix = Mix(settings)
    script = [
        Step(0.0, "tier", tier, model, mix.draw(rng, model=model, tag=tier))
        for _ in range(settings.passes)
        for model in settings.models + settings.embedders
        for tier in settings.tiers
    ]
    return Plan((Phase("first hits", 0.0, settings.duration_s),), settings.duration_s, script=tuple(script))

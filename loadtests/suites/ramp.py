"""The rate goes up in equal ratios, step by step: where the knee is, beyond which answers wait for each other.

The last step has --factor times the rate of the first. The knee is the last step that keeps the goals
(``loadtests.outcome.knee``).
"""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import Phase, Plan
from loadtests.load.settings import Settings
from loadtests.suites.loads import closed_load, open_load

PRESET: dict[str, Any] = {"rate_per_s": 2.0, "factor": 32.0, "steps": 6, "duration_s": 48.0}


def build(settings: Settings) -> Plan:
    steps, each_s = settings.steps, settings.duration_s / settings.steps
    ratio = settings.factor ** (1 / max(1, steps - 1))

    def phase(number: int, rate: float, users: int) -> Phase:
        name = f"{rate:g}/s" if rate else f"{users} users"
        return Phase(name, number * each_s, (number + 1) * each_s, rate, users)

    if settings.users:
        counts = [max(1, round(settings.users * ratio**number)) for number in range(steps)]
        return closed_load(settings, [phase(number, 0.0, users) for number, users in enumerate(counts)])
    rates = [round(settings.rate_per_s * ratio**number, 2) for number in range(steps)]
    return open_load(settings, [phase(number, rate, 0) for number, rate in enumerate(rates)])

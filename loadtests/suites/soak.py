"""A long steady load: whether latencies, errors or the gateway's memory drift. Ten parts, to be held side by side.

The memory of the gateway's processes is in the run document, under ``series.service.gateway``.
"""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import Phase, Plan
from loadtests.load.settings import Settings
from loadtests.suites.loads import closed_load, open_load

PARTS = 10
PRESET: dict[str, Any] = {"rate_per_s": 4.0, "duration_s": 1800.0, "poll_s": 1.0}


def build(settings: Settings) -> Plan:
    each_s = settings.duration_s / PARTS
    phases = [
        Phase(f"{part + 1}/{PARTS}", part * each_s, (part + 1) * each_s, settings.rate_per_s, settings.users)
        for part in range(PARTS)
    ]
    return closed_load(settings, phases) if settings.users else open_load(settings, phases)

"""One rate for a while: what a request costs when nothing happens. With --users: conversations at once instead."""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import Phase, Plan
from loadtests.load.settings import Settings
from loadtests.suites.loads import closed_load, open_load

PRESET: dict[str, Any] = {"rate_per_s": 5.0, "duration_s": 30.0}


def build(settings: Settings) -> Plan:
    if settings.users:
        return closed_load(settings)
    return open_load(settings, [Phase("steady", 0.0, settings.duration_s, rate_per_s=settings.rate_per_s)])

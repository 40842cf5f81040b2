"""Does everything answer? A few users, every model, all dialects, streamed and whole.

Passes when nothing fails.
"""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import Phase, Plan
from loadtests.load.settings import Settings
from loadtests.suites.loads import closed_load, open_load

PRESET: dict[str, Any] = {
    "users": 3,
    "duration_s": 10.0,
    "output_tokens": "fixed:12",
    "unstreamed": 0.25,
    "dialects": {"chat": 2.0, "completions": 1.0, "messages": 1.0},
}


def build(settings: Settings) -> Plan:
    if settings.rate_per_s:
        return open_load(settings, [Phase("smoke", 0.0, settings.duration_s, rate_per_s=settings.rate_per_s)])
    return closed_load(settings, [Phase("smoke", 0.0, settings.duration_s, users=settings.users)])

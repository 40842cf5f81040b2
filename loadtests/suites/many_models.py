"""Many models, a few of them wanted most: shares by Zipf's law over up to 50 of the service's models."""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import Phase, Plan
from loadtests.load.settings import Settings
from loadtests.suites.loads import open_load

MOST = 50
PRESET: dict[str, Any] = {"rate_per_s": 5.0, "zipf": 1.0, "duration_s": 60.0, "output_tokens": "fixed:16"}


def build(settings: Settings) -> Plan:
    """The k-th model's share is proportional to k^-zipf; the order is the service's own."""
    count = len(settings.models + settings.embedders)
    weights = [(place + 1) ** -settings.zipf if place < MOST else 0.0 for place in range(count)]
    whole = Phase("zipf", 0.0, settings.duration_s, rate_per_s=settings.rate_per_s or 5.0)
    return open_load(settings, [whole], weights)

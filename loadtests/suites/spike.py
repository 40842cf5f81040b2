"""From calm to --factor times as many arrivals within a second, and back: what users feel until there is room.

All of it goes to one model (``loadtests.scalable``), and so much that places on replicas are scarce before the
processor is.
"""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import Plan, following
from loadtests.load.settings import Settings
from loadtests.suites.loads import open_load

PRESET: dict[str, Any] = {"rate_per_s": 2.0, "factor": 20.0, "duration_s": 40.0, "output_tokens": "fixed:48"}


def build(settings: Settings) -> Plan:
    quarter_s, rate = settings.duration_s / 4, settings.rate_per_s or 2.0
    return open_load(
        settings,
        following(
            ("calm", quarter_s, rate), ("spike", 2 * quarter_s, rate * settings.factor), ("after", quarter_s, rate)
        ),
    )

"""A steady load, and a kill in its middle (--kill, --kill-at): who fails, and how long until all is as before.

What can be killed are the installation's own processes on this machine: ``engine``, ``worker`` or ``controller``
(``loadtests.generator.strike``).
"""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import Phase, Plan, Step
from loadtests.load.settings import Settings, SettingsError
from loadtests.suites.loads import closed_load, open_load

PRESET: dict[str, Any] = {"rate_per_s": 5.0, "duration_s": 30.0, "kill": "engine", "kill_at_s": 10.0}


def build(settings: Settings) -> Plan:
    at_s, end_s = settings.kill_at_s, settings.duration_s
    if not 0 < at_s < end_s:
        raise SettingsError(f"kill_at_s must be within the run's {end_s:g} s, not {at_s:g}")
    rate, users = settings.rate_per_s, settings.users
    phases = [Phase("before", 0.0, at_s, rate, users), Phase("after the kill", at_s, end_s, rate, users)]
    kill = [Step(at_s, "kill", settings.kill)]
    return closed_load(settings, phases, kill) if users else open_load(settings, phases, events=kill)

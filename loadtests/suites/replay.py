"""A trace, played --speed times as fast: published ones, the simulator's own formats, or what the gateway recorded.

Arrivals, lengths and the mix of models are the trace's; the service's models stand for its own where it has not the
same, by how often they come up. With --rate, the trace is played as fast as makes that rate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadtests.load.plan import Plan
from loadtests.load.settings import Settings, SettingsError
from loadtests.replay.trace_file import arrivals

PRESET: dict[str, Any] = {"duration_s": 60.0, "speed": 60.0}


def build(settings: Settings) -> Plan:
    """Raises SettingsError."""
    if not settings.trace:
        raise SettingsError("replay plays a trace: name it with --trace FILE")
    return arrivals(Path(settings.trace), settings)

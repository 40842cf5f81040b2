"""The suites: what each asks, and its preset. ``loadtests/locustfiles`` has a locustfile for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from loadtests.load.plan import Plan
from loadtests.load.settings import Settings, checked
from loadtests.suites import (
    chaos,
    many_models,
    noisy_neighbour,
    ramp,
    replay,
    smoke,
    soak,
    spike,
    steady,
    zero,
)

Build = Callable[[Settings], Plan]


@dataclass(frozen=True)
class Suite:
    """``preset``: how it differs from the settings' own defaults."""

    name: str
    about: str
    build: Build
    preset: dict[str, Any] = field(default_factory=dict)

    def settings(self, **given: Any) -> Settings:
        """The preset with what was given. A rate and users exclude each other: the one given counts.

        Raises SettingsError.
        """
        preset = dict(self.preset)
        if given.get("users"):
            preset.pop("rate_per_s", None)
        elif given.get("rate_per_s"):
            preset.pop("users", None)
        return checked(msgspec.structs.replace(Settings(suite=self.name), **(preset | given)))


_MODULES = {
    "smoke": smoke,
    "steady": steady,
    "ramp": ramp,
    "spike": spike,
    "zero": zero,
    "many-models": many_models,
    "replay": replay,
    "noisy-neighbour": noisy_neighbour,
    "soak": soak,
    "chaos": chaos,
}
SUITES: dict[str, Suite] = {
    name: Suite(name, (module.__doc__ or "").partition("\n")[0], module.build, module.PRESET)
    for name, module in _MODULES.items()
}


def plan_of(settings: Settings) -> Plan:
    """Raises SettingsError, and what reading a trace raises."""
    return SUITES[settings.suite].build(settings)

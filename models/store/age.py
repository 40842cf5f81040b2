"""How long ago a controller has written, whatever was done to clocks since."""

from __future__ import annotations

from collections.abc import Callable

from models.clock import SinceBoot, since_boot
from models.store.records import FleetRecord


def age_s(fleet: FleetRecord, now_unix_s: float, machine: Callable[[], SinceBoot] = since_boot) -> float:
    """On the machine that wrote it, by what cannot be set; elsewhere, as well as the two clocks agree."""
    here = machine()
    if fleet.boot and fleet.boot == here.boot:
        return max(0.0, here.since_s - fleet.since_boot_s)
    return max(0.0, now_unix_s - fleet.updated_unix_s)

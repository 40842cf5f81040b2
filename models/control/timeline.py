"""What an earlier controller wrote, in this one's time: the machine's clock may have been set between the two."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from models.clock import SinceBoot
from models.control.history import Remembered
from models.store.records import FleetRecord
from packers.usage import Usage

NOTICED_S = 1.0


def jumped_s(before: FleetRecord, now: float, machine: SinceBoot) -> float:
    """By how much clocks were set forward since ``before`` was written; negative: back.

    On the machine that wrote it this is known: so much more Unix time has passed than time. Of another machine, or
    another boot, only this much is: that nothing was written in the future.
    """
    passed_s = now - before.updated_unix_s
    if before.boot and before.boot == machine.boot:
        jump_s = passed_s - (machine.since_s - before.since_boot_s)
        return jump_s if abs(jump_s) >= NOTICED_S else 0.0
    return min(0.0, passed_s)


def moved(before: FleetRecord, by_s: float) -> FleetRecord:
    """Its times, as they would have been by a clock that was right then."""
    if not by_s:
        return before
    replicas = tuple(
        msgspec.structs.replace(
            replica,
            state_since_unix_s=replica.state_since_unix_s + by_s,
            last_used_unix_s=replica.last_used_unix_s + by_s,
        )
        for replica in before.replicas
    )
    return msgspec.structs.replace(before, updated_unix_s=before.updated_unix_s + by_s, replicas=replicas)


def past_moved(past: Remembered, by_s: float) -> Remembered:
    if not by_s:
        return past
    return msgspec.structs.replace(past, usage={model: _usage(usage, by_s) for model, usage in past.usage.items()})


def _usage(usage: Usage, by_s: float) -> Usage:
    return replace(usage, last_s=usage.last_s + by_s, centres_s=tuple(at_s + by_s for at_s in usage.centres_s))

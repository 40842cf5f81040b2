"""From what the measurements told to lines for people. Pure."""

from __future__ import annotations

import statistics
from typing import Any

GIB = 1 << 30
WAKE_FACTOR = 1.3  # goal C5
WAKE_OFFSET_S = 0.1
TOLERANCE = 0.02


def wake_goal_s(size_bytes: int, bytes_per_s: float) -> float:
    """Goal C5: within 1.3x of bytes / measured host-to-device bandwidth + 0.1 s."""
    return WAKE_FACTOR * (size_bytes / bytes_per_s) + WAKE_OFFSET_S


def bandwidth_lines(told: dict[str, Any]) -> list[str]:
    lines = []
    for kind, one in told.items():
        rate = f"{one['bytes_per_s'] / 1e9:.1f} GB/s" if one["bytes_per_s"] else f"not possible ({one['why']})"
        lines.append(f"host to device, {kind}: {rate}")
    return lines


def wake_line(told: dict[str, Any], bytes_per_s: float) -> str:
    wake_s, suspend_s = statistics.median(told["wake_s"]), statistics.median(told["suspend_s"])
    text = (
        f"wake {told['bytes'] / 1e9:.2f} GB ({told['kept']}): median {wake_s:.3f} s"
        f" ({told['bytes'] / wake_s / 1e9:.1f} GB/s), sleep {suspend_s:.3f} s"
    )
    if bytes_per_s:
        goal_s = wake_goal_s(told["bytes"], bytes_per_s)
        text += f", goal C5 at most {goal_s:.3f} s: {'met' if wake_s <= goal_s else 'missed'}"
    return text + ("" if told["equal"] else "; THE ANSWERS DIFFER")


def residue_line(told: dict[str, Any]) -> str:
    if told["context"] is None:
        return "residue: the driver does not tell what a process holds"
    steps = ", ".join(f"{step} {told[step] >> 20} MiB" for step in ("context", "loaded", "used", "asleep"))
    return f"residue of a process with {told['weights'] >> 20} MiB of weights: {steps}"


def ledger_line(told: dict[str, Any]) -> str:
    if "why" in told:
        return f"ledger against NVML: not measured ({told['why']})"
    verdict = "met" if abs(told["off"]) <= TOLERANCE else "missed"
    return (
        f"ledger against NVML: {told['ledger_bytes'] >> 20} and {told['nvml_bytes'] >> 20} MiB, {told['off']:+.2%},"
        f" goal within {TOLERANCE:.0%}: {verdict}"
    )


def checkpoint_line(told: dict[str, Any]) -> str:
    medians = {key: statistics.median(one[key] for one in told["passes"]) for key in ("checkpoint_s", "wake_s")}
    left = {key: max(one[key] or 0 for one in told["passes"]) >> 20 for key in ("asleep_bytes", "away_bytes")}
    return (
        f"checkpoint beside {told['bytes'] / 1e9:.2f} GB of weights: away in {medians['checkpoint_s']:.3f} s, awake in"
        f" {medians['wake_s']:.3f} s; {left['asleep_bytes']} MiB stay asleep, {left['away_bytes']} MiB stay away"
        + ("" if told["equal"] else "; THE ANSWERS DIFFER")
    )

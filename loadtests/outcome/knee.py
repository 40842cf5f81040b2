"""Where a ramp's knee is: the last step that keeps the goals. Pure.

A step below it that missed them did so for another reason than the load: a higher one was no trouble.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FAILED_SHARE, SLOWER = 0.01, 3.0


def knee(phases: Sequence[dict[str, Any]], good_share: float | None = None) -> dict[str, Any] | None:
    """``phases``: of a summary. With goals for single requests, a step keeps them when ``good_share`` of its requests
    are good; without, when at most FAILED_SHARE fail and its median time to first token is at most SLOWER times that
    of the first step (a step has too few requests for its p99 to be more than its worst moment). None when no step
    keeps them."""
    reasons = [_broken(phase, phases[0], good_share) for phase in phases]
    place = max((place for place, reason in enumerate(reasons) if not reason), default=None)
    if place is None:
        return None
    found = {"step": phases[place]["name"], "requests_per_s": phases[place]["requests_per_s"]}
    if place + 1 == len(phases):
        return {**found, "next_step": None, "because": "the ramp ended before a knee"}
    return {**found, "next_step": phases[place + 1]["name"], "because": reasons[place + 1]}


def _broken(phase: dict[str, Any], first: dict[str, Any], good_share: float | None) -> str:
    if good_share is not None:
        share = phase["good_share"]
        return "" if share is not None and share >= good_share else f"{share or 0:.1%} of the requests are good"
    if phase["failed_share"] > FAILED_SHARE:
        return f"{phase['failed_share']:.1%} of the requests fail"
    kind = "ttft_ms" if first["ttft_ms"]["count"] else "e2e_ms"
    before, now = first[kind].get("p50"), phase[kind].get("p50")
    if before is None or now is None:
        return "nothing was answered"
    return f"the median is {now / before:.1f} times the first step's" if now > SLOWER * before else ""

"""Where a ramp's knee is: the last step before the first that does not keep the goals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FAILED_SHARE, SLOWER = 0.01, 3.0


def knee(phases: Sequence[dict[str, Any]], good_share: float | None = None) -> dict[str, Any] | None:
    """``phases``: of a summary. With goals for single requests, a step keeps them when ``good_share`` of its requests
    are good; without, when at most FAILED_SHARE fail and its p99 time to first token is at most SLOWER times that of
    the first step. None when not even the first step keeps them."""
    found = None
    for phase in phases:
        reason = _broken(phase, phases[0], good_share)
        if reason:
            return None if found is None else {**found, "next_step": phase["name"], "because": reason}
        found = {"step": phase["name"], "requests_per_s": phase["requests_per_s"]}
    return None if found is None else {**found, "next_step": None, "because": "the ramp ended before a knee"}


def _broken(phase: dict[str, Any], first: dict[str, Any], good_share: float | None) -> str:
    if good_share is not None:
        share = phase["good_share"]
        return "" if share is not None and share >= good_share else f"{share or 0:.1%} of the requests are good"
    if phase["failed_share"] > FAILED_SHARE:
        return f"{phase['failed_share']:.1%} of the requests fail"
    kind = "ttft_ms" if first["ttft_ms"]["count"] else "e2e_ms"
    before, now = first[kind].get("p99"), phase[kind].get("p99")
    if before is None or now is None:
        return "nothing was answered"
    return f"p99 is {now / before:.1f} times the first step's" if now > SLOWER * before else ""

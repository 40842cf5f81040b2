"""When a warm process has served long enough: its memory has grown, or it has forked often, or it is simply old."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a warm process may reach, 0 for without a bound. ``grown_bytes``: resident memory beyond that when warm."""

    grown_bytes: int = 256 * MIB
    forks: int = 5000
    age_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Age:
    """What a warm process has reached."""

    rss_bytes: int
    warm_rss_bytes: int
    forks: int
    age_s: float


def why_old(age: Age, bounds: Bounds) -> str | None:
    """Which bound is passed, in words for a log; None when none is."""
    grown_bytes = age.rss_bytes - age.warm_rss_bytes
    if bounds.grown_bytes and grown_bytes > bounds.grown_bytes:
        return f"its memory grew by {grown_bytes // MIB} MiB"
    if bounds.forks and age.forks >= bounds.forks:
        return f"it has forked {age.forks} times"
    if bounds.age_s and age.age_s >= bounds.age_s:
        return f"it is {age.age_s / 3600:.1f} hours old"
    return None

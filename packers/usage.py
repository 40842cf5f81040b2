"""What is known of a model's past requests, for residency: which models to keep, evict and bring back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """As of the last change; all of it follows from the arrivals alone. Times in seconds of the caller's clock."""

    arrivals: int = 0
    last_s: float = 0.0


UNUSED = Usage()

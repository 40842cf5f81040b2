"""From samples to the figures that are reported. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

Number = TypeVar("Number", int, float)


def percentile(ordered: Sequence[Number], percent: float) -> Number:
    """Nearest rank: the smallest sample that at least ``percent`` of all do not exceed. ``ordered`` ascends."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

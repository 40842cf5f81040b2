"""Waiting for real processes: as long as it takes, up to a limit that only a hang reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
HANG_S = 60.0


def eventually(look: Callable[[], T], what: str) -> T:
    """The first true answer of ``look``."""
    deadline = time.monotonic() + HANG_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)
    return found

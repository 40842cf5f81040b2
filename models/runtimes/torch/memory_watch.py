"""Notices an engine whose own memory grows beyond what the ledger has reserved for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from models.runtimes.proc import trim_heap
from models.runtimes.protocol import Budget
from models.runtimes.vllm.mapped_pages import read_pages

LOOK_EVERY_S = 2.0
# Activations of a large batch are there at one look and gone at the next, and heaps keep some of them.
LEAST_TOLERANCE_BYTES = 512 << 20
TOLERANCE_SHARE = 0.5
LOOKS = 2

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Private memory up to ``limit_bytes``: the larger of budget and what it held when ready, and a tolerance."""

    def __init__(self, reserved_bytes: int, private_bytes: int) -> None:
        within = max(reserved_bytes, private_bytes)
        self.limit_bytes = within + max(LEAST_TOLERANCE_BYTES, int(within * TOLERANCE_SHARE))
        self._reserved_bytes = reserved_bytes
        self._over = 0

    def look(self, private_bytes: int) -> str | None:
        """One clear sentence once it was too much at LOOKS looks in a row."""
        self._over = self._over + 1 if private_bytes > self.limit_bytes else 0
        if self._over < LOOKS:
            return None
        return (
            f"the model's memory has grown to {private_bytes >> 20} MiB, with {self._reserved_bytes >> 20} MiB reserved"
            f" for it and {self.limit_bytes >> 20} MiB let pass: it leaks, or its budget is too small"
        )


def reserved_bytes(budget: Budget) -> int:
    return budget.weights_bytes + budget.overhead_bytes


async def outgrown(
    watch: MemoryWatch,
    private_bytes: Callable[[], int] = lambda: read_pages().private_bytes,
    anonymous_bytes: Callable[[], int] = lambda: anonymous(),
    every_s: float = LOOK_EVERY_S,
) -> str:
    """Wait for a leak; one clear sentence."""
    while True:
        await asyncio.sleep(every_s)
        # Cheap, and never less than what is private: pages that are still shared with the launcher count as well.
        if anonymous_bytes() <= watch.limit_bytes:
            continue
        found = watch.look(await asyncio.to_thread(_trimmed, private_bytes))
        if found:
            return found


def anonymous(pid: int | None = None) -> int:
    """Resident bytes that belong to no file, shared with the launcher or not. 0 when the process is gone."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid or 'self'}/statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(resident) - int(shared)) * _PAGE_BYTES


def _trimmed(private_bytes: Callable[[], int]) -> int:
    """What is left when the heap has given back what it only keeps for later."""
    trim_heap()
    return private_bytes()

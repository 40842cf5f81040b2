"""Ending background tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 0.1


async def end(tasks: Iterable[asyncio.Task[Any]], again_s: float = AGAIN_S) -> None:
    """Cancel until every task has ended; what they end with is dropped.

    Once is not enough: redis-py sends inside ``asyncio.wait_for``, which on Python 3.11 loses a cancellation that comes
    just as the send completes (3.12 rewrote it). A loop that lost it would go on, and so would our wait for it.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again_s)

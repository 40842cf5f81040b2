"""A machine that leaves its cluster in order: what runs on it goes elsewhere first, as far as there is time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from gateway.service.report import Event, Report
from models.home import Home
from models.runtimes.sockets import answers
from packers.explain import count

LEAVE_S = 20.0
LOOK_EVERY_S = 0.1


async def leave(
    home: Home,
    report: Report,
    hurry: asyncio.Event,
    *,
    unix_s: Callable[[], float] = time.time,
    leave_s: float = LEAVE_S,
) -> None:
    """Leave word that this machine will be gone in ``leave_s``; returns when no engine is left on it, or then.

    Also returns as soon as ``hurry`` is set. Raises OSError.
    """
    if not engines(home):
        return
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + leave_s
    home.reclaim_notice.write_text(f"{unix_s() + leave_s:.3f}\n")
    report(Event(kind="note", text=f"Leaving the cluster: what runs here has {leave_s:g} s to go elsewhere."))
    while engines(home) and loop.time() < deadline_s and not hurry.is_set():
        await asyncio.sleep(LOOK_EVERY_S)
    left = len(engines(home))
    stay = f"Still here: {count(left, 'engine')}, to end with this machine's parts."
    text = stay if left else "No engine is left here."
    report(Event(kind="note", text=text))


def engines(home: Home) -> list[Path]:
    """Control sockets of those that run here."""
    return [path for path in sorted(home.engines.glob("*.ctl")) if answers(str(path))]

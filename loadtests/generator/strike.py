"""Kills a process of the service that is loaded: one that the admin API names and that runs on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from loadtests.target import Target
from loadtests.wire import CallFailed, get_json

MARK = b"ROUNDHOUSE_INSTANCE="
PROC = Path("/proc")


class CannotStrike(CallFailed):
    """There is no such process, or it is not the service's, or not on this machine."""


def _engine(target: Target, models: Collection[str]) -> list[int]:
    """The busiest first."""
    replicas = get_json(target, "/admin/v1/replicas", admin=True)["data"]
    serving = [one for one in replicas if one["state"] == "ready" and one.get("pid") and one["model_id"] in models]
    return [one["pid"] for one in sorted(serving, key=lambda one: -int(one.get("in_flight", 0)))]


def _worker(target: Target, models: Collection[str]) -> list[int]:
    status = get_json(target, "/admin/v1/status", admin=True)
    return [worker["pid"] for worker in status.get("workers") or (status["gateway"],)]


def _controller(target: Target, models: Collection[str]) -> list[int]:
    controller = get_json(target, "/admin/v1/status", admin=True)["controller"]
    return [controller["pid"]] if controller else []


VICTIMS: dict[str, Callable[[Target, Collection[str]], list[int]]] = {
    "engine": _engine,
    "worker": _worker,
    "controller": _controller,
}


def strike(target: Target, victim: str, models: Collection[str]) -> dict[str, Any]:
    """SIGKILL to the first such process; what was hit. ``models``: those that are loaded, an engine is of one of them.

    Raises CallFailed.
    """
    if not target.loopback:
        raise CannotStrike(f"{target.url} is not this machine: nothing is killed there")
    if victim not in VICTIMS:
        raise CannotStrike(f"--kill: {victim!r} is none of {', '.join(VICTIMS)}")
    pids = [pid for pid in VICTIMS[victim](target, models) if _is_ours(pid)]
    if not pids:
        raise CannotStrike(f"no {victim} of the service runs on this machine")
    try:
        handle = os.pidfd_open(pids[0])
    except ProcessLookupError:
        raise CannotStrike(f"the {victim} ended before it could be hit") from None
    try:
        if not _is_ours(pids[0]):  # the handle pins whoever has the number now
            raise CannotStrike(f"the {victim} ended before it could be hit")
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    return {"what": "kill", "detail": f"{victim}, process {pids[0]}"}


def _is_ours(pid: int) -> bool:
    """Every process of an installation carries its mark in its environment; no other may be hit."""
    try:
        return MARK in (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False

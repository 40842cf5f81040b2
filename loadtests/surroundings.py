"""Where a run took place: the generator's machine and versions, and what the target says of itself."""

from __future__ import annotations

from typing import Any

from loadtests.coldstart.machine import machine, versions
from loadtests.target import Target
from loadtests.wire import CallFailed, get_json


def environment_of() -> dict[str, Any]:
    return {"machine": machine(), "versions": versions()}


def target_of(target: Target) -> dict[str, Any]:
    """``service``: roundhouse or other. ``simulated``: whether its GPUs are; None where nobody says."""
    found: dict[str, Any] = {"url": target.url, "service": "other", "version": None, "simulated": None}
    try:
        status = get_json(target, "/admin/v1/status", admin=True, timeout_s=5.0)
        found |= {"service": "roundhouse", "version": status["version"], "simulated": status["simulated"]}
        found |= {"gpus": status["gpus"], "nodes": status["nodes"], "workers": status.get("workers_wanted")}
    except (CallFailed, KeyError, TypeError):
        return found
    return found

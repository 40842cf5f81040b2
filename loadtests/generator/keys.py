"""Whose key a request carries."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from loadtests.load.plan import Plan
from loadtests.target import Target


def keys_of(target: Target, tenants: Mapping[str, str]) -> dict[str, str]:
    """By tenant; "" is whoever calls in a suite without tenants."""
    return {"": target.api_key, "quiet": target.api_key, "noisy": tenants.get("noisy") or target.api_key}


def tenants_of(
    environ: Callable[[str, str], str] = lambda name, default: os.environ.get(name, default),
) -> dict[str, str]:
    noisy = environ("ROUNDHOUSE_NOISY_KEY", "")
    return {"noisy": noisy} if noisy else {}


def shared(plan: Plan, keys: Mapping[str, str]) -> bool:
    """Whether two of the plan's tenants are one for the service."""
    tenants = {arrival.wish.tenant for arrival in plan.arrivals}
    return len({keys[tenant] for tenant in tenants}) < len(tenants)

"""The names that each kind of policy may have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from packers.autoscale.registry import AUTOSCALING
from packers.decide import Policies
from packers.defrag.plan import DEFRAG
from packers.eviction import EVICTION
from packers.placement import RULES


def registries() -> Mapping[str, Collection[str]]:
    """Field of ``packers.decide.Policies`` -> the names it takes."""
    return {"placement": RULES, "eviction": EVICTION, "scaling": AUTOSCALING, "defrag": DEFRAG}


def described(policies: Policies) -> dict[str, str | float | int | bool | None]:
    """Every setting under one name; those of a part as ``part.setting``."""
    found: dict[str, str | float | int | bool | None] = {}
    for field in fields(policies):
        value = getattr(policies, field.name)
        if is_dataclass(value) and not isinstance(value, type):
            found |= {f"{field.name}.{name}": _plain(inner) for name, inner in asdict(value).items()}
        else:
            found[field.name] = value
    return found


def _plain(value: Any) -> str | float | int | bool | None:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value

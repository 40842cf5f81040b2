"""Which runs a simulation consists of: every combination of the values that are swept."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from gateway.cli.errors import AskedWrongly
from gateway.cli.simulation.worlds import Hardware
from models.catalog.errors import UnitError
from models.catalog.policies import described, registries
from models.catalog.problems import did_you_mean
from models.catalog.units import parse_seconds

if TYPE_CHECKING:
    from packers.decide import Policies
    from packers.types import Model

RUNS_MAX = 200
MODEL_FIELDS = {"ttl": "ttl_s", "min_replicas": "", "max_replicas": "", "target_in_flight": ""}
HARDWARE_FIELDS = ("gpus", "nodes", "host_memory")
RUN_FIELDS = ("seed", "rate", "slots")


@dataclass(frozen=True, slots=True)
class Variant:
    """One run: what differs from the others, as it was written, in the order of the sweep."""

    settings: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        return " ".join(value if name == "policy" else f"{name}={value}" for name, value in self.settings) or "default"

    def get(self, name: str) -> str | None:
        return dict(self.settings).get(name)


def variants(policy: Sequence[str], sweeps: Sequence[str]) -> list[Variant]:
    """``policy``: names to compare. ``sweeps``: each like ``ttl=60,600 policy=lru,ours``. Raises AskedWrongly."""
    axes: dict[str, list[str]] = {}
    if policy:
        axes["policy"] = list(policy)
    for part in " ".join(sweeps).split():
        name, separator, values = part.partition("=")
        name = name.replace("-", "_")
        if not separator or not values:
            raise AskedWrongly(f"--sweep: {part[:60]!r} names no values", code="invalid_sweep", cure="write ttl=60,600")
        if name not in known_settings():
            raise AskedWrongly(
                f"--sweep: {name[:60]!r} is nothing that can be swept",
                code="invalid_sweep",
                cure=did_you_mean(name, known_settings()),
            )
        axes.setdefault(name, []).extend(values.split(";" if name == "gpus" and ";" in values else ","))
    runs = [
        Variant(tuple(zip(axes, values, strict=True)))
        for values in itertools.product(*map(dict.fromkeys, axes.values()))
    ]
    if len(runs) > RUNS_MAX:
        raise AskedWrongly(
            f"--sweep: {len(runs)} runs are more than {RUNS_MAX}", code="invalid_sweep", cure="sweep fewer values"
        )
    return runs


def known_settings() -> list[str]:
    from packers.decide import Policies

    return [
        "policy",
        *(name for name in described(Policies()) if "." not in name),
        *MODEL_FIELDS,
        *HARDWARE_FIELDS,
        *RUN_FIELDS,
    ]


def policies_of(variant: Variant, base: Policies) -> Policies:
    """``policy``: a name out of any registry (one that placement and eviction know, like ``ours``, means these two: how
    many replicas there should be, and what moves, are other questions), ``default``, or
    ``placement=ours,eviction=lru``. Raises AskedWrongly.
    """
    changes: dict[str, str] = {}
    chosen = variant.get("policy")
    if chosen is not None:
        changes |= _named(chosen)
    changes |= {field.name: value for field in fields(base) if (value := variant.get(field.name)) is not None}
    return _changed(base, changes)


def models_of(variant: Variant, models: Sequence[Model]) -> tuple[Model, ...]:
    changes: dict[str, Any] = {}
    for name, field in MODEL_FIELDS.items():
        value = variant.get(name)
        if value is not None:
            changes[field or name] = seconds(value, name) if name == "ttl" else whole(value, name)
    return tuple(replace(model, **changes) for model in models)


def hardware_of(variant: Variant, base: Hardware) -> Hardware:
    changes: dict[str, Any] = {name: value for name in HARDWARE_FIELDS if (value := variant.get(name)) is not None}
    if "nodes" in changes:
        changes["nodes"] = whole(changes["nodes"], "nodes")
    return replace(base, **changes)


def whole(text: str, name: str) -> int:
    if not text.isdigit():
        raise AskedWrongly(f"{name}: {text[:40]!r} is not a whole number", code="invalid_sweep", cure=f"write {name}=4")
    return int(text)


def seconds(text: str, name: str) -> float:
    try:
        return parse_seconds(text)
    except UnitError:
        pass
    try:
        return parse_seconds(float(text))
    except (UnitError, ValueError):
        raise AskedWrongly(
            f"{name}: {text[:40]!r} is not a duration", code="invalid_sweep", cure=f"write {name}=60 or {name}=10m"
        ) from None


def _named(name: str) -> Mapping[str, str]:
    if name == "default":
        return {}
    found: dict[str, str] = {field: name for field, names in registries().items() if name in names}
    if not found:
        known = {"default", *itertools.chain.from_iterable(registries().values())}
        raise AskedWrongly(f"policy {name[:60]!r} is unknown", code="unknown_policy", cure=did_you_mean(name, known))
    who_gets_memory: dict[str, str] = {field: found[field] for field in ("placement", "eviction") if field in found}
    return who_gets_memory or found


def _changed(base: Policies, changes: Mapping[str, str]) -> Policies:
    from packers.decide import UnknownPolicy

    given: dict[str, Any] = {field: _value(getattr(base, field), value, field) for field, value in changes.items()}
    try:
        return replace(base, **given)
    except UnknownPolicy as problem:
        raise AskedWrongly(str(problem), code="unknown_policy") from None
    except ValueError as problem:
        raise AskedWrongly(str(problem), code="invalid_sweep") from None


def _value(now: object, text: str, name: str) -> object:
    """As what the field holds now is."""
    if isinstance(now, bool):
        if text not in ("true", "false"):
            raise AskedWrongly(f"{name}: {text[:40]!r} is not true or false", code="invalid_sweep")
        return text == "true"
    if isinstance(now, int):
        return whole(text, name)
    if isinstance(now, float):
        return seconds(text, name)
    return text

"""From what is written in routes.yaml to what the gateway goes by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.greed import Caps
from gateway.routing import READY
from gateway.settings import Limits
from gateway.standalone.routes_file import ModelSettings, RoutesFile, UpstreamSettings
from models.catalog.errors import ConfigError, Problem
from models.store.records import ModelRoute, ReplicaRoute

DRAINING = "draining"
RUNTIME = "upstream"


@dataclass(frozen=True, slots=True)
class Table:
    """``headers``: endpoint -> header lines for its requests, each ended by CRLF. They may be secret."""

    models: tuple[ModelRoute, ...]
    headers: Mapping[str, bytes] = field(repr=False)
    limits: Limits = field(default_factory=Limits)
    caps: Caps = field(default_factory=Caps)


def compile_table(routes: RoutesFile, environment: Mapping[str, str], file: str) -> Table:
    """``file``: its name as messages say it. Raises ConfigError naming each variable that cannot be used."""
    headers: dict[str, bytes] = {}
    problems: list[Problem] = []
    for index, model in enumerate(routes.models):
        for number, upstream in enumerate(model.upstreams):
            if said := _missing(upstream, environment):
                problems.append(Problem(file, f"models[{index}].upstreams[{number}].api_key_env", *said))
            elif lines := _header_lines(upstream, environment):
                headers[upstream.url] = lines
    if problems:
        raise ConfigError(tuple(problems))
    return Table(
        tuple(_route(model) for model in routes.models), headers, routes.limits.limits(), Caps(**routes.limits.caps)
    )


def _missing(upstream: UpstreamSettings, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with its variable, and the cure; never its value."""
    name = upstream.api_key_env
    if name is None:
        return None
    value = environment.get(name, "")
    if not value:
        return f"the environment has no {name}", f"start the gateway with {name} set to the upstream's key"
    if not value.isascii() or not value.isprintable() or " " in value:
        return f"{name} does not hold a key", "set it to the key alone, without spaces and line ends"
    return None


def _header_lines(upstream: UpstreamSettings, environment: Mapping[str, str]) -> bytes:
    headers = dict(upstream.headers)
    if upstream.api_key_env is not None:
        headers["authorization"] = f"Bearer {environment[upstream.api_key_env]}"
    return b"".join(f"{name}: {value}\r\n".encode("ascii") for name, value in headers.items())


def _route(model: ModelSettings) -> ModelRoute:
    return ModelRoute(
        model_id=model.model_id,
        aliases=model.aliases,
        runtime=RUNTIME,
        tier="gpu",
        replicas=tuple(_replica(model.model_id, upstream) for upstream in model.upstreams),
        max_model_len=model.context_length,
        owned_by=model.owned_by,
        capabilities=model.capabilities,
        adapters=model.adapters,
        price={str(unit): price for unit, price in model.price.items()},
    )


def _replica(model_id: str, upstream: UpstreamSettings) -> ReplicaRoute:
    """Its id is made of what it is, so that what is known of it (its load, its health) outlives a reload."""
    there = f"#{upstream.model}" if upstream.model else ""
    return ReplicaRoute(
        replica_id=f"{model_id}@{upstream.url}{there}",
        endpoint=upstream.url,
        state=READY if upstream.weight else DRAINING,
        slots=upstream.slots,
        weight=upstream.weight or 1.0,
        serves_as=upstream.model,
    )

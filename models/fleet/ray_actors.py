"""How this project makes its Ray actors: named, detached, on a chosen node, without claiming Ray resources.

Handles are ``Any``: their methods exist only at run time. All of these ask Ray's head, and block until it answers.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from models.cluster import NAME_LABEL
from models.home import node_name
from packers.types import NodeId

NAMESPACE = "roundhouse"
CONCURRENT_CALLS = 1000


def named_actor(kind: type, name: str, *args: object, ray_node: str | None = None, restart: bool = False) -> Any:
    """The actor of this name, made now if there is none. ``restart``: Ray starts it again when its process dies."""
    options: dict[str, Any] = {"max_restarts": -1 if restart else 0}
    if ray_node is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(ray_node, soft=False)
    remote: Any = ray.remote(kind)
    return remote.options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_concurrency=CONCURRENT_CALLS,
        **options,
    ).remote(*args)


def kill_actor(handle: Any) -> None:
    """Also one that waits for a node that will not come back."""
    with contextlib.suppress(RayError, ValueError):
        ray.kill(handle)


def actor_names() -> list[str]:
    listed: Any = ray.util.list_named_actors(all_namespaces=True)
    return [entry["name"] for entry in listed if entry["namespace"] == NAMESPACE]


@dataclass(frozen=True, slots=True)
class RayEntry:
    """A node as Ray's head lists it. ``ray_node``: Ray's id, another one each time that its Ray is started."""

    ray_node: str
    name: NodeId
    alive: bool


def ray_table() -> tuple[RayEntry, ...]:
    """Every node that Ray's head knows, the dead ones of late included. Raises RayError."""
    nodes: Any = ray
    here: str = ray.get_runtime_context().get_node_id()
    return named(nodes.nodes(), here)


def named(listed: list[dict[str, Any]], here: str) -> tuple[RayEntry, ...]:
    """By their label; without one, as in a Ray cluster of the operator's own, by host name, and where several of one
    name are alive by Ray's id as well. ``here``: Ray's id of this node, which knows its own name.
    """
    hosts = Counter(entry.get("NodeManagerHostname", "") for entry in listed if entry["Alive"] and not _label(entry))

    def name(entry: dict[str, Any]) -> str:
        ray_node, host = entry["NodeID"], entry.get("NodeManagerHostname", "")
        if _label(entry):
            return _label(entry)
        if ray_node == here:
            return node_name()
        return host if host and hosts[host] <= 1 and host != node_name() else f"{host or 'node'}-{ray_node[:8]}"

    return tuple(RayEntry(entry["NodeID"], NodeId(name(entry)), entry["Alive"]) for entry in listed)


def _label(entry: dict[str, Any]) -> str:
    return str(entry.get("Labels", {}).get(NAME_LABEL, ""))

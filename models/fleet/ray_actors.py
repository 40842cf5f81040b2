"""How this project makes its Ray actors: named, detached, on a chosen node, without claiming Ray resources.

Handles are ``Any``: their methods exist only at run time.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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


def actor_names() -> list[str]:
    listed: Any = ray.util.list_named_actors(all_namespaces=True)
    return [entry["name"] for entry in listed if entry["namespace"] == NAMESPACE]


def live_nodes() -> list[str]:
    """Ray's ids of the nodes that are alive."""
    nodes: Any = ray
    return [entry["NodeID"] for entry in nodes.nodes() if entry["Alive"]]

"""Which endpoints a model answers on, known before it starts: nobody waits to learn that it was the wrong one."""

from __future__ import annotations

from gateway.endpoints import ENDPOINTS, Endpoint
from gateway.errors import UnsupportedEndpoint
from models.store.records import ModelRoute


def check_capability(route: ModelRoute, endpoint: Endpoint) -> None:
    """Raises UnsupportedEndpoint, naming where the model can be called. What is not known, the engine decides."""
    if not route.capabilities or endpoint.capability in route.capabilities:
        return
    first: dict[str, str] = {}
    for each in ENDPOINTS:
        if each.capability in route.capabilities:
            first.setdefault(each.capability, each.path_for(route.model_id))
    paths = " or ".join(first.values())
    raise UnsupportedEndpoint(
        f"The model '{route.model_id}' does not support {endpoint.path_for(route.model_id)}; call it by {paths}.",
        param=endpoint.model_field,
    )

"""Called by ``ray start`` in its own process (RAY_START_HOOK) before it starts anything."""

from __future__ import annotations

from typing import Protocol


class StartParameters(Protocol):
    """The part of Ray's start parameters that is changed here."""

    ray_client_server_port: int | None


def without_client_server(parameters: StartParameters, head: bool) -> None:
    """The Ray Client server is 60 MB and an open port for nobody; no option of ``ray start`` leaves it out."""
    parameters.ray_client_server_port = None

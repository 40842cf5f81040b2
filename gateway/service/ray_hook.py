"""Called by ``ray start`` in its own process (RAY_START_HOOK) before it starts anything."""

from __future__ import annotations

import os
from typing import Protocol

from models.cluster import HOME_LABEL, NAME_LABEL
from models.home import node_name


class StartParameters(Protocol):
    """The part of Ray's start parameters that is changed here."""

    ray_client_server_port: int | None
    labels: dict[str, str] | None


def on_start(parameters: StartParameters, head: bool) -> None:
    """``ray start --labels`` takes no paths; the parameters do."""
    # The Ray Client server is 60 MB and an open port for nobody; no option of ``ray start`` leaves it out.
    parameters.ray_client_server_port = None
    labels = {NAME_LABEL: node_name(), HOME_LABEL: os.environ["ROUNDHOUSE_HOME"]}
    parameters.labels = {**(parameters.labels or {}), **labels}

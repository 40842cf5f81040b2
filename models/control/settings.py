"""What the controller is started with; travels to its actor."""

from __future__ import annotations

from pathlib import Path

import msgspec

from models.catalog.gpus import SimulatedGpu
from models.catalog.service import ServiceConfig


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``gpus``: an override of the configuration's simulated GPUs, such as ``2x1GiB@20GiB/s``."""

    home: str
    config: str
    redis_url: str
    redis_prefix: str
    gpus: str | None = None

    @property
    def config_path(self) -> Path:
        return Path(self.config)

    def simulated(self, config: ServiceConfig) -> tuple[SimulatedGpu, ...] | None:
        """The simulated GPUs of a node, or None for the real ones. Raises UnitError."""
        return (config.with_gpus(self.gpus) if self.gpus else config).simulated

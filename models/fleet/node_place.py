"""What a node is: its GPUs, address and memory, from its own file and from what the cluster's head configures."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import msgspec

from models.catalog.errors import UnitError
from models.catalog.gpus import SimulatedGpu, parse_simulated
from models.fleet import node_file
from models.fleet.devices import NoGpus, gpus_of_node
from models.fleet.protocol import FleetNode
from models.home import Home
from models.runtimes.protocol import Device
from packers.types import Gpu, GpuId, NodeId, PoolId


class UnusableNode(Exception):
    """This machine cannot be a node; the message says why, and crosses Ray as it is."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the head says of a node; the node's own file (``Home.node_file``) says it better.

    ``home``: where ``ROUNDHOUSE_HOME`` is not set. ``simulated``: None means the real GPUs. ``host_bytes``: None means
    half of the RAM.
    """

    node: NodeId
    home: str
    simulated: tuple[SimulatedGpu, ...] | None
    host_bytes: int | None

    def find_home(self) -> Home:
        return Home.find(os.environ.get("ROUNDHOUSE_HOME") or self.home)


@dataclass(frozen=True, slots=True)
class NodePlace:
    name: NodeId
    home: Home
    file: node_file.NodeFile
    gpus: tuple[Gpu, ...]
    devices: dict[GpuId, Device]
    host_bytes: int
    simulated: bool

    @classmethod
    def find(cls, settings: NodeSettings) -> NodePlace:
        """Raises UnusableNode."""
        home = settings.find_home()
        try:
            file = node_file.read(home.node_file, otherwise=settings.node)
            simulated = settings.simulated if file.gpus is None else parse_simulated(file.gpus)
        except (OSError, msgspec.MsgspecError, UnitError) as problem:
            raise UnusableNode(f"{home.node_file} cannot be used: {problem}; join the cluster again") from problem
        try:
            gpus, devices = gpus_of_node(settings.node, simulated)
        except NoGpus as problem:
            raise UnusableNode(str(problem)) from problem
        if file.pool is not None:
            gpus = tuple(replace(gpu, pool=PoolId(file.pool)) for gpu in gpus)
        host_bytes = next((said for said in (file.host_bytes, settings.host_bytes) if said is not None), _half_of_ram())
        return cls(settings.node, home, file, gpus, devices, host_bytes, simulated is not None)

    def shown(self) -> FleetNode:
        return FleetNode(
            id=self.name,
            address=self.file.address,
            host_bytes=self.host_bytes,
            gpus=self.gpus,
            run_dir=str(self.home.engines),
            link_bytes_per_s=max((device.link_bytes_per_s for device in self.devices.values()), default=0.0),
            simulated=self.simulated,
        )


def _half_of_ram() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2

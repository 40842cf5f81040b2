"""The GPUs of a node: real ones by NVML, or simulated ones by configuration."""

from __future__ import annotations

from models import nvml
from models.catalog.gpus import SimulatedGpu
from models.runtimes.protocol import Device
from packers.types import Gpu, GpuId, NodeId


class NoGpus(Exception):
    """This node has no GPU and none were simulated; the message names the cure."""


def gpus_of_node(
    node: NodeId, simulated: tuple[SimulatedGpu, ...] | None
) -> tuple[tuple[Gpu, ...], dict[GpuId, Device]]:
    """GPUs of this node and the device that an engine must be given for each.

    ``simulated``: None means the real ones. Raises NoGpus.
    """
    if simulated is not None:
        return _simulated(node, simulated)
    try:
        found = nvml.probe()
    except nvml.NvmlUnavailable as reason:
        raise NoGpus(f"no GPU on {node} ({reason}); name simulated ones, for example --gpus 2x1GiB") from reason
    gpus, devices = [], {}
    for real in found:
        gpu = Gpu(GpuId(f"{node}/gpu-{real.index}"), node, real.index, real.total_bytes, real.name, simulated=False)
        gpus.append(gpu)
        devices[gpu.id] = Device(kind="cuda", uuid=real.uuid, id=gpu.id, memory_bytes=real.total_bytes, simulated=False)
    return tuple(gpus), devices


def _simulated(node: NodeId, named: tuple[SimulatedGpu, ...]) -> tuple[tuple[Gpu, ...], dict[GpuId, Device]]:
    gpus = tuple(Gpu(GpuId(f"{node}/gpu-{i}"), node, i, each.memory_bytes) for i, each in enumerate(named))
    devices = {
        gpu.id: Device(
            kind="cpu",
            id=gpu.id,
            memory_bytes=gpu.memory_bytes,
            simulated=True,
            link_bytes_per_s=each.link_bytes_per_s,
        )
        for gpu, each in zip(gpus, named, strict=True)
    }
    return gpus, devices

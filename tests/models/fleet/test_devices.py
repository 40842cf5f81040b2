"""The GPUs of a node, and what an engine is told of each."""

from __future__ import annotations

import pytest

from models import nvml
from models.catalog.gpus import SimulatedGpu
from models.fleet.devices import NoGpus, gpus_of_node
from models.nvml import RealGpu
from packers.types import GpuId, NodeId

GIB = 2**30
NODE = NodeId("n")


def test_simulated_gpus_have_the_bus_they_were_given() -> None:
    gpus, devices = gpus_of_node(NODE, (SimulatedGpu(GIB), SimulatedGpu(2 * GIB, 20.0 * GIB)))
    assert [(gpu.id, gpu.memory_bytes, gpu.simulated) for gpu in gpus] == [
        ("n/gpu-0", GIB, True),
        ("n/gpu-1", 2 * GIB, True),
    ]
    assert devices[GpuId("n/gpu-0")].link_bytes_per_s == 0.0
    assert devices[GpuId("n/gpu-1")].link_bytes_per_s == 20.0 * GIB
    assert all(device.simulated and device.kind == "cpu" for device in devices.values())


def test_real_gpus_are_those_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "probe", lambda: (RealGpu(3, "GPU-x", "H100", 80 * GIB, GIB),))
    gpus, devices = gpus_of_node(NODE, None)
    (gpu,) = gpus
    assert (gpu.id, gpu.name, gpu.simulated, gpu.memory_bytes) == ("n/gpu-3", "H100", False, 80 * GIB)
    device = devices[gpu.id]
    assert (device.kind, device.uuid, device.simulated, device.link_bytes_per_s) == ("cuda", "GPU-x", False, 0.0)


def test_without_a_gpu_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> tuple[RealGpu, ...]:
        raise nvml.NvmlUnavailable("no driver")

    monkeypatch.setattr(nvml, "probe", none)
    with pytest.raises(NoGpus, match="--gpus 2x1GiB"):
        gpus_of_node(NODE, None)

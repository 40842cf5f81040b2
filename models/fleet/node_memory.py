"""How much memory a node really has left, whatever the ledger says: asked before an engine is started there.

The ledger counts what this service has reserved. Other programs are in no ledger: what they hold shows here, and a
start that cannot succeed is refused with the figures instead of being tried and crashed.
"""

from __future__ import annotations

from pathlib import Path

from models import nvml
from models.catalog.units import format_bytes
from models.runtimes.protocol import Device, EngineError, EngineOrder

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
RAM_LEFT_BYTES = 256 * 2**20  # of the machine, for everything else


def used_bytes() -> dict[str, int]:
    """UUID of each GPU -> bytes in use, by its driver; empty where there is none."""
    try:
        return {gpu.uuid: gpu.used_bytes for gpu in nvml.probe()}
    except nvml.NvmlUnavailable:
        return {}


def available_ram_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """What new processes can take without swapping: of the machine, or of the container where that is less."""
    lines = (line.partition(":") for line in meminfo.read_text().splitlines())
    fields = {name: rest for name, _, rest in lines}
    machine_bytes = int(fields["MemAvailable"].split()[0]) * 1024
    return min(machine_bytes, _container_bytes(cgroup, machine_bytes))


def _container_bytes(cgroup: Path, otherwise: int) -> int:
    """Pages of files count as free: the kernel drops them when processes need the memory."""
    try:
        most = (cgroup / "memory.max").read_text().strip()
        taken_bytes = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return otherwise
    if most == "max":
        return otherwise
    return max(0, int(most) - taken_bytes + int(stat.get("file", 0)) - int(stat.get("shmem", 0)))


def check_room(order: EngineOrder, node: str, gpu: str) -> None:
    """Raises EngineError with the figures and the cure when the order cannot fit."""
    budget = order.budget
    if order.device.kind == "cuda":
        needed_bytes = budget.weights_bytes + budget.kv_cache_bytes + budget.overhead_bytes
        _check_gpu(order.device, needed_bytes, gpu)
    else:
        # Weights are mapped files: their pages give way. What the engine writes to stays.
        _check_ram(budget.kv_cache_bytes + budget.overhead_bytes, node)


def _check_gpu(device: Device, needed_bytes: int, gpu: str) -> None:
    try:
        found = next((real for real in nvml.probe() if real.uuid == device.uuid), None)
    except nvml.NvmlUnavailable as problem:
        raise EngineError(f"{gpu} is lost: {problem}", "memory") from problem
    if found is None:
        raise EngineError(f"{gpu} is lost: the driver does not list it any more", "memory")
    if found.free_bytes < needed_bytes:
        raise EngineError(
            f"{gpu} has {format_bytes(found.free_bytes)} free, the engine needs {format_bytes(needed_bytes)}: "
            "something outside this service holds the rest; end it, or drain the GPU",
            "memory",
        )


def _check_ram(needed_bytes: int, node: str) -> None:
    available_bytes = available_ram_bytes()
    if available_bytes < needed_bytes + RAM_LEFT_BYTES:
        raise EngineError(
            f"{node} has {format_bytes(available_bytes)} of RAM available, the engine needs "
            f"{format_bytes(needed_bytes)} on its simulated GPU and {format_bytes(RAM_LEFT_BYTES)} have to stay; "
            "stop other models or simulate less GPU memory",
            "memory",
        )

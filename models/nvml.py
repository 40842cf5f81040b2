"""The GPUs that the NVIDIA driver knows. The only importer of pynvml (package nvidia-ml-py)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_log = logging.getLogger(__name__)


class NvmlUnavailable(Exception):
    """There is no GPU to be asked for; the message says why in a few words."""


@dataclass(frozen=True, slots=True)
class RealGpu:
    """``index`` counts in the driver's order (PCI bus); ``uuid`` is what CUDA_VISIBLE_DEVICES takes."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    # What the driver keeps for itself, a part of ``used_bytes``; 0 where it does not say.
    reserved_bytes: int = 0
    mig: bool = False  # an instance of a GPU that is split

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.used_bytes


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process's memory on one GPU. ``used_bytes`` None: the driver does not tell, as in some containers."""

    uuid: str
    pid: int
    used_bytes: int | None


def probe() -> tuple[RealGpu, ...]:
    """At least one GPU; one that is split by MIG is replaced by its instances. A lost one keeps its index, unlisted.

    Raises NvmlUnavailable, at once where there is no driver.
    """
    gpus: list[RealGpu] = []
    index = 0
    with _nvml() as nvml:
        for position in range(nvml.nvmlDeviceGetCount()):
            try:
                found = _usable(nvml, nvml.nvmlDeviceGetHandleByIndex(position))
                gpus += [_describe(nvml, index + offset, handle) for offset, handle in enumerate(found)]
                index += len(found)
            except nvml.NVMLError as error:
                _log.warning("GPU %d is left out: %s", position, _reason(error))
                index += 1
    if not gpus:
        raise NvmlUnavailable("the NVIDIA driver lists no usable GPU")
    return tuple(gpus)


def driver_version() -> str:
    """Raises NvmlUnavailable."""
    with _nvml() as nvml:
        return _text(nvml.nvmlSystemGetDriverVersion())


def processes() -> tuple[GpuProcess, ...]:
    """Every process that holds memory of a GPU, by GPU and pid; of all users, as the driver numbers them.

    A process in another container may be listed under a number that is unknown here. Raises NvmlUnavailable.
    """
    found: list[GpuProcess] = []
    with _nvml() as nvml:
        for position in range(nvml.nvmlDeviceGetCount()):
            try:
                for handle in _usable(nvml, nvml.nvmlDeviceGetHandleByIndex(position)):
                    found += _processes_on(nvml, handle)
            except nvml.NVMLError as error:
                _log.warning("the processes on GPU %d are unknown: %s", position, _reason(error))
    return tuple(sorted(found, key=lambda process: (process.uuid, process.pid)))


def process_bytes(pid: int, uuid: str | None = None) -> int | None:
    """What ``pid`` holds on one GPU or on all, 0 when it is not listed. None: nobody can tell, and it never raises."""
    try:
        listed = [process for process in processes() if process.pid == pid and uuid in (None, process.uuid)]
    except NvmlUnavailable:
        return None
    if any(process.used_bytes is None for process in listed):
        return None
    return sum(process.used_bytes or 0 for process in listed)


def keep_open() -> None:
    """For a process that asks often: opening the driver's library takes milliseconds each time, asking it does not.

    Not before a fork: a child needs its own. Raises NvmlUnavailable.
    """
    with _nvml() as nvml:
        nvml.nvmlInit()  # counted: the one that is never undone


@contextmanager
def _nvml() -> Iterator[ModuleType]:
    try:
        import pynvml
    except ImportError:
        raise NvmlUnavailable("the Python package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailable(_reason(error)) from None
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise NvmlUnavailable(_reason(error)) from None
    finally:
        pynvml.nvmlShutdown()


def _usable(nvml: ModuleType, handle: Any) -> list[Any]:
    """The GPU itself, or its MIG instances: while MIG is on, CUDA sees only those."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # a GPU that cannot be split
        return [handle]
    if current != nvml.NVML_DEVICE_MIG_ENABLE:
        return [handle]
    instances = []
    for slot in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instances.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot))
        except nvml.NVMLError_NotFound:
            continue
    return instances


def _describe(nvml: ModuleType, index: int, handle: Any) -> RealGpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    return RealGpu(
        index=index,
        uuid=uuid,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        total_bytes=int(memory.total),
        used_bytes=int(memory.used),
        reserved_bytes=_reserved_bytes(nvml, handle),
        mig=uuid.startswith("MIG-"),
    )


def _reserved_bytes(nvml: ModuleType, handle: Any) -> int:
    """Only the second version of the question is answered with it, and only by newer drivers."""
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2).reserved)
    except nvml.NVMLError:
        return 0


def _processes_on(nvml: ModuleType, handle: Any) -> list[GpuProcess]:
    """Those that compute and those that draw; one that does both is listed twice with the same memory."""
    uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    held: dict[int, int | None] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        try:
            for process in ask(handle):
                held[int(process.pid)] = None if process.usedGpuMemory is None else int(process.usedGpuMemory)
        except nvml.NVMLError_NotSupported:  # a MIG instance does not draw
            continue
    return [GpuProcess(uuid, pid, used_bytes) for pid, used_bytes in held.items()]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # older versions of the package give bytes


def _reason(error: Exception) -> str:
    return f"the NVIDIA driver says: {str(error).strip() or type(error).__name__}"

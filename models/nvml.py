"""The GPUs that the NVIDIA driver knows. The only importer of pynvml (package nvidia-ml-py)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
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


class GpuHealth:
    """Listens to what the driver says of some GPUs (by UUID) from now on; keeps the driver's library open.

    Not before a fork. Raises NvmlUnavailable.
    """

    def __init__(self, uuids: Sequence[str]) -> None:
        with _nvml() as nvml:
            nvml.nvmlInit()  # counted: the one that is never undone
            self._nvml = nvml
            self._uuids = tuple(uuids)
            self._events = nvml.nvmlEventSetCreate()
            self._of_parent: dict[str, list[str]] = {}  # errors are reported of whole GPUs
            for uuid in uuids:
                self._listen(uuid)

    def _listen(self, uuid: str) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            if uuid.startswith("MIG-"):
                handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
            parent = _text(nvml.nvmlDeviceGetUUID(handle))
            if parent not in self._of_parent:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)
            self._of_parent.setdefault(parent, []).append(uuid)
        except nvml.NVMLError as error:  # an old GPU reports no events; its loss still shows
            _log.warning("Xid errors of %s are not watched: %s", uuid, _reason(error))

    def missing(self) -> dict[str, str]:
        """UUID -> why it cannot be used now. What the driver cannot tell at this moment is not missing."""
        gone = tuple(getattr(self._nvml, name) for name in _GONE)
        found = {}
        for uuid in self._uuids:
            try:
                self._nvml.nvmlDeviceGetMemoryInfo(self._nvml.nvmlDeviceGetHandleByUUID(uuid))
            except gone as error:
                found[uuid] = _reason(error)
            except self._nvml.NVMLError as error:
                _log.warning("the state of %s is unknown: %s", uuid, _reason(error))
        return found

    def take_xids(self) -> list[tuple[str, int]]:
        """(UUID, Xid) of the errors reported since the last call; of a split GPU for each of its instances."""
        found: list[tuple[str, int]] = []
        while True:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                parent = _text(self._nvml.nvmlDeviceGetUUID(event.device))
            except self._nvml.NVMLError_Timeout:
                return found
            except self._nvml.NVMLError as error:  # a lost GPU, which ``missing`` tells
                _log.warning("the driver's events cannot be read: %s", _reason(error))
                return found
            found += [(uuid, int(event.eventData)) for uuid in self._of_parent.get(parent, ())]


_GONE = ("NVMLError_GpuIsLost", "NVMLError_NotFound", "NVMLError_ResetRequired")


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

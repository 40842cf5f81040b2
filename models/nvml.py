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

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.used_bytes


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
    return RealGpu(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        total_bytes=int(memory.total),
        used_bytes=int(memory.used),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # older versions of the package give bytes


def _reason(error: Exception) -> str:
    return f"the NVIDIA driver says: {str(error).strip() or type(error).__name__}"

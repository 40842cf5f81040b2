# ruff: noqa: N801, N802, N815 - the names are those of pynvml
"""The GPU probe where there is no GPU, and against a driver that is played by the test."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from models.nvml import (
    GpuHealth,
    GpuProcess,
    NvmlUnavailable,
    RealGpu,
    driver_version,
    keep_open,
    probe,
    process_bytes,
    processes,
)

GIB = 2**30


class NVMLError(Exception):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


class NVMLError_ResetRequired(NVMLError):
    pass


class NVMLError_Timeout(NVMLError):
    pass


class Driver(ModuleType):
    """The part of pynvml that is used; a GPU is (name, total, used), a list of those is one that MIG has split.

    ``computing`` and ``drawing``: by GPU name, the processes that do, as (pid, bytes).
    """

    NVML_DEVICE_MIG_ENABLE = 1
    NVMLError = NVMLError
    NVMLError_NotFound = NVMLError_NotFound
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_GpuIsLost = NVMLError_GpuIsLost
    NVMLError_ResetRequired = NVMLError_ResetRequired
    NVMLError_Timeout = NVMLError_Timeout
    nvmlEventTypeXidCriticalError = 8
    nvmlMemory_v2 = 2

    def __init__(self, gpus: list[Any], broken: str | None = None) -> None:
        super().__init__("pynvml")
        self.gpus = gpus
        self.broken = broken
        self.open = 0
        self.reserved: dict[str, int] = {}
        self.computing: dict[str, list[tuple[int, int | None]]] = {}
        self.drawing: dict[str, list[tuple[int, int | None]]] = {}
        self.gone: dict[str, NVMLError] = {}  # UUID -> what asking for it raises
        self.watched: list[tuple[str, int]] = []
        self.xids: list[tuple[str, int]] = []  # GPU's name and code

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        if uuid in self.gone:
            raise self.gone[uuid]
        if uuid.startswith("MIG-"):
            return next(one for gpu in self.gpus if isinstance(gpu, list) for one in gpu if f"MIG-{one[0]}" == uuid)
        return next(gpu for gpu in self.gpus if not isinstance(gpu, list) and f"GPU-{gpu[0]}" == uuid)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance: Any) -> Any:
        return next((gpu[0][0] + "-whole", 0, 0) for gpu in self.gpus if isinstance(gpu, list) and instance in gpu)

    def nvmlEventSetCreate(self) -> str:
        return "events"

    def nvmlDeviceRegisterEvents(self, gpu: Any, kinds: int, events: str) -> None:
        if gpu[0] == "old":
            raise NVMLError_NotSupported("Not Supported")
        self.watched.append((self.nvmlDeviceGetUUID(gpu), kinds))

    def nvmlEventSetWait_v2(self, events: str, timeout_ms: int) -> SimpleNamespace:
        assert timeout_ms == 0, "nobody waits here"
        if not self.xids:
            raise NVMLError_Timeout("Timeout")
        name, code = self.xids.pop(0)
        return SimpleNamespace(device=(name, 0, 0), eventData=code)

    def nvmlInit(self) -> None:
        if self.broken:
            raise NVMLError(self.broken)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"570.1"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        if self.gpus[index] is None:
            raise NVMLError("GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetMigMode(self, gpu: Any) -> list[int]:
        if gpu and gpu[0] == "old":
            raise NVMLError("Not Supported")
        return [int(isinstance(gpu, list)), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Any) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Any, slot: int) -> Any:
        if slot >= len(gpu):
            raise NVMLError_NotFound("Not Found")
        return gpu[slot]

    def nvmlDeviceGetUUID(self, gpu: Any) -> str:
        instance = gpu[0].startswith("slice") and not gpu[0].endswith("-whole")
        return f"{'MIG' if instance else 'GPU'}-{gpu[0]}"

    def nvmlDeviceGetName(self, gpu: Any) -> str:
        return str(gpu[0])

    def nvmlDeviceGetMemoryInfo(self, gpu: Any, version: int | None = None) -> SimpleNamespace:
        if version is None:
            return SimpleNamespace(total=gpu[1], used=gpu[2], free=gpu[1] - gpu[2])
        if gpu[0] not in self.reserved:
            raise NVMLError("Function Not Found")
        return SimpleNamespace(total=gpu[1], used=0, free=0, reserved=self.reserved[gpu[0]])

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: Any) -> list[SimpleNamespace]:
        if gpu[0] == "dying":
            raise NVMLError("GPU is lost")
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.computing.get(gpu[0], [])]

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu: Any) -> list[SimpleNamespace]:
        if gpu[0].startswith("slice"):
            raise NVMLError_NotSupported("Not Supported")
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.drawing.get(gpu[0], [])]


@pytest.fixture
def driver(monkeypatch):
    def _driver(*gpus: Any, broken: str | None = None) -> Driver:
        played = Driver(list(gpus), broken)
        monkeypatch.setitem(sys.modules, "pynvml", played)
        return played

    return _driver


def test_gpus_are_described(driver):
    played = driver(("a", 80 * GIB, GIB), ("b", 24 * GIB, 0))
    assert probe() == (
        RealGpu(index=0, uuid="GPU-a", name="a", total_bytes=80 * GIB, used_bytes=GIB),
        RealGpu(index=1, uuid="GPU-b", name="b", total_bytes=24 * GIB, used_bytes=0),
    )
    assert probe()[0].free_bytes == 79 * GIB
    assert played.open == 0


def test_a_gpu_that_cannot_be_split_counts(driver):
    driver(("old", GIB, 0))
    assert [gpu.name for gpu in probe()] == ["old"]


def test_a_split_gpu_is_replaced_by_its_instances(driver):
    driver([("slice-a", 10 * GIB, 0), ("slice-b", 20 * GIB, 0)], ("whole", 80 * GIB, 0))
    assert [(gpu.index, gpu.name) for gpu in probe()] == [(0, "slice-a"), (1, "slice-b"), (2, "whole")]


def test_an_instance_is_marked_as_one(driver):
    driver([("slice-a", GIB, 0)], ("whole", GIB, 0))
    assert [(gpu.uuid, gpu.mig) for gpu in probe()] == [("MIG-slice-a", True), ("GPU-whole", False)]


def test_what_the_driver_keeps_for_itself_is_told_where_it_is_known(driver):
    played = driver(("new", GIB, 100), ("old-driver", GIB, 100))
    played.reserved = {"new": 60}
    assert [gpu.reserved_bytes for gpu in probe()] == [60, 0]


def test_processes_are_listed_by_gpu_and_number(driver):
    played = driver(("a", GIB, 0), [("slice-b", GIB, 0)])
    played.computing = {"a": [(30, 300), (20, 200)], "slice-b": [(30, 7)]}
    played.drawing = {"a": [(20, 200), (40, 1)]}  # 20 draws and computes: it holds its memory once
    assert processes() == (
        GpuProcess("GPU-a", 20, 200),
        GpuProcess("GPU-a", 30, 300),
        GpuProcess("GPU-a", 40, 1),
        GpuProcess("MIG-slice-b", 30, 7),
    )
    assert (process_bytes(30), process_bytes(30, "GPU-a"), process_bytes(30, "MIG-slice-b")) == (307, 300, 7)
    assert process_bytes(99) == 0


def test_a_process_whose_memory_is_secret_has_an_unknown_size(driver):
    driver(("a", GIB, 0)).computing = {"a": [(30, None)]}
    assert processes() == (GpuProcess("GPU-a", 30, None),)
    assert process_bytes(30) is None


def test_a_gpu_that_is_lost_meanwhile_hides_no_process_of_others(driver, caplog):
    driver(("dying", GIB, 0), ("b", GIB, 0)).computing = {"b": [(5, 50)]}
    assert process_bytes(5) == 50
    assert "the processes on GPU 0 are unknown: the NVIDIA driver says: GPU is lost" in caplog.text


def test_without_a_driver_nobody_can_tell(driver):
    driver(broken="Driver Not Loaded")
    assert process_bytes(1) is None
    with pytest.raises(NvmlUnavailable, match="Driver Not Loaded"):
        keep_open()


def test_kept_open_the_library_stays_open(driver):
    played = driver(("a", GIB, 0))
    keep_open()
    assert played.open == 1
    probe()
    assert played.open == 1


def test_a_lost_gpu_does_not_hide_the_others_nor_move_them(driver, caplog):
    driver(("a", GIB, 0), None, ("c", GIB, 0))
    assert [(gpu.index, gpu.name) for gpu in probe()] == [(0, "a"), (2, "c")]
    assert "GPU 1 is left out: the NVIDIA driver says: GPU is lost" in caplog.text


@pytest.mark.parametrize("gpus", [(), (None,), ([],)])
def test_a_driver_without_usable_gpus(driver, gpus):
    played = driver(*gpus)
    with pytest.raises(NvmlUnavailable, match="lists no usable GPU"):
        probe()
    assert played.open == 0


def test_a_driver_that_does_not_load(driver):
    driver(broken="Driver Not Loaded")
    for ask in (probe, driver_version):
        with pytest.raises(NvmlUnavailable, match=r"^the NVIDIA driver says: Driver Not Loaded$"):
            ask()


def test_the_drivers_version(driver):
    driver(("a", GIB, 0))
    assert driver_version() == "570.1"


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NvmlUnavailable, match="nvidia-ml-py is not installed"):
        probe()


def test_the_real_package_answers_or_says_why_not():
    """On a machine without a driver this is the answer that every node of a simulated cluster gets."""
    try:
        found = [f"the NVIDIA driver lists {gpu.name}" for gpu in probe() if gpu.total_bytes > 0 and gpu.uuid]
    except NvmlUnavailable as error:
        found = [str(error)]
    assert found
    assert all(line.startswith("the NVIDIA driver ") for line in found)


def test_importing_the_probe_loads_nothing_heavy():
    code = "import sys, models.nvml; print([n for n in ('pynvml', 'ray', 'redis', 'torch') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_health_listens_to_critical_errors_of_whole_gpus_and_keeps_the_library_open(driver):
    played = driver(("a", GIB, 0), [("slice-a", GIB, 0), ("slice-b", GIB, 0)])
    GpuHealth(["GPU-a", "MIG-slice-a", "MIG-slice-b"])
    assert played.watched == [("GPU-a", 8), ("GPU-slice-a-whole", 8)]
    assert played.open == 1


def test_an_error_is_told_once_and_of_a_split_gpu_for_each_instance(driver):
    played = driver(("a", GIB, 0), [("slice-a", GIB, 0), ("slice-b", GIB, 0)])
    health = GpuHealth(["GPU-a", "MIG-slice-a", "MIG-slice-b"])
    assert health.take_xids() == []
    played.xids = [("a", 48), ("slice-a-whole", 79), ("a", 13)]
    assert health.take_xids() == [("GPU-a", 48), ("MIG-slice-a", 79), ("MIG-slice-b", 79), ("GPU-a", 13)]
    assert health.take_xids() == []


@pytest.mark.parametrize("how", [NVMLError_GpuIsLost, NVMLError_NotFound, NVMLError_ResetRequired])
def test_a_gpu_that_the_driver_has_lost_is_missing_until_it_finds_it(driver, how):
    played = driver(("a", GIB, 0), ("b", GIB, 0))
    health = GpuHealth(["GPU-a", "GPU-b"])
    assert health.missing() == {}
    played.gone["GPU-b"] = how("GPU is lost")
    assert health.missing() == {"GPU-b": "the NVIDIA driver says: GPU is lost"}
    played.gone.clear()
    assert health.missing() == {}


def test_what_the_driver_cannot_tell_now_is_not_missing(driver, caplog):
    played = driver(("a", GIB, 0))
    health = GpuHealth(["GPU-a"])
    played.gone["GPU-a"] = NVMLError("Unknown Error")
    assert health.missing() == {}
    assert "the state of GPU-a is unknown" in caplog.text


def test_a_gpu_that_reports_no_events_is_still_looked_for(driver, caplog):
    played = driver(("old", GIB, 0))
    health = GpuHealth(["GPU-old"])
    assert "Xid errors of GPU-old are not watched" in caplog.text
    played.gone["GPU-old"] = NVMLError_GpuIsLost("GPU is lost")
    assert list(health.missing()) == ["GPU-old"]


def test_health_needs_a_driver(driver):
    driver(broken="Driver Not Loaded")
    with pytest.raises(NvmlUnavailable, match="Driver Not Loaded"):
        GpuHealth(["GPU-a"])

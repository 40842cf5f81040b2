"""What a node has left, and starts that are refused because it would not be enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import nvml
from models.fleet import node_memory
from models.fleet.node_memory import RAM_LEFT_BYTES, available_ram_bytes, check_room, used_bytes
from models.nvml import RealGpu
from models.runtimes.protocol import Budget, Device, EngineError, EngineOrder

GIB = 2**30


def order(device: Device, weights: int = 4 * GIB, kv: int = 2 * GIB, overhead: int = GIB) -> EngineOrder:
    return EngineOrder(
        replica_id="r",
        model_id="m",
        served_names=("m",),
        runtime="tiny",
        source="x",
        engine_args={},
        device=device,
        budget=Budget(weights_bytes=weights, kv_cache_bytes=kv, overhead_bytes=overhead),
        http_path="/h",
        control_path="/c",
        log_path="/l",
    )


SIMULATED = Device(kind="cpu", memory_bytes=8 * GIB)
REAL = Device(kind="cuda", uuid="GPU-1", memory_bytes=80 * GIB, simulated=False)


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """/proc/meminfo with 8 GiB available, and a folder for a control group."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 16777216 kB\nMemAvailable: {8 * 2**20} kB\nHugePages_Total: 0\n")
    (tmp_path / "cgroup").mkdir()
    return meminfo, tmp_path / "cgroup"


def confine(cgroup: Path, most: str, taken: int = 0, files: int = 0) -> None:
    (cgroup / "memory.max").write_text(f"{most}\n")
    (cgroup / "memory.current").write_text(f"{taken}\n")
    (cgroup / "memory.stat").write_text(f"anon 1\nfile {files}\nshmem 0\n")


def test_without_a_container_the_machine_counts(machine: tuple[Path, Path]) -> None:
    assert available_ram_bytes(*machine) == 8 * GIB
    confine(machine[1], "max")
    assert available_ram_bytes(*machine) == 8 * GIB


def test_in_a_container_its_limit_counts_and_pages_of_files_give_way(machine: tuple[Path, Path]) -> None:
    confine(machine[1], str(4 * GIB), taken=3 * GIB, files=2 * GIB)
    assert available_ram_bytes(*machine) == 3 * GIB
    confine(machine[1], str(4 * GIB), taken=5 * GIB)
    assert available_ram_bytes(*machine) == 0
    confine(machine[1], str(40 * GIB), taken=3 * GIB)
    assert available_ram_bytes(*machine) == 8 * GIB


def test_this_machine_has_some_memory() -> None:
    assert available_ram_bytes() > 0


def test_an_engine_on_a_simulated_gpu_needs_ram_for_what_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_memory, "available_ram_bytes", lambda: 3 * GIB + RAM_LEFT_BYTES)
    check_room(order(SIMULATED, weights=100 * GIB), "n", "n/gpu-0")  # mapped: their pages give way
    monkeypatch.setattr(node_memory, "available_ram_bytes", lambda: 3 * GIB)
    with pytest.raises(EngineError) as refused:
        check_room(order(SIMULATED), "n", "n/gpu-0")
    assert refused.value.fault == "memory"
    said = str(refused.value)
    assert "n has 3 GiB of RAM available, the engine needs 3 GiB on its simulated GPU" in said
    assert "stop other models or simulate less GPU memory" in said


def driver(monkeypatch: pytest.MonkeyPatch, *gpus: RealGpu) -> None:
    monkeypatch.setattr(nvml, "probe", lambda: gpus)


def test_what_other_programs_hold_of_a_real_gpu_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, RealGpu(0, "GPU-1", "H100", 80 * GIB, 73 * GIB))
    check_room(order(REAL), "n", "n/gpu-0")
    assert used_bytes() == {"GPU-1": 73 * GIB}
    driver(monkeypatch, RealGpu(0, "GPU-1", "H100", 80 * GIB, 74 * GIB))
    with pytest.raises(EngineError, match=r"n/gpu-0 has 6 GiB free, the engine needs 7 GiB.*outside this service"):
        check_room(order(REAL), "n", "n/gpu-0")


def test_a_gpu_that_is_gone_is_called_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, RealGpu(0, "GPU-2", "H100", 80 * GIB, 0))
    with pytest.raises(EngineError, match="n/gpu-0 is lost"):
        check_room(order(REAL), "n", "n/gpu-0")

    def none() -> tuple[RealGpu, ...]:
        raise nvml.NvmlUnavailable("the driver is gone")

    monkeypatch.setattr(nvml, "probe", none)
    with pytest.raises(EngineError, match="the driver is gone"):
        check_room(order(REAL), "n", "n/gpu-0")
    assert used_bytes() == {}

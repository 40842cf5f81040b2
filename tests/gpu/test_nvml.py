"""The GPU probe on a machine that has GPUs; compared with what the driver's own tool says. Run by ``make test-gpu``."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time

import pytest

from models.nvml import GpuHealth, driver_version, probe

pytestmark = pytest.mark.gpu


def smi(*fields: str) -> list[list[str]]:
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, check=True)
    return [[cell.strip() for cell in row] for row in csv.reader(done.stdout.splitlines())]


def test_every_gpu_is_listed_as_the_drivers_tool_lists_it():
    found = [[str(gpu.index), gpu.uuid, gpu.name] for gpu in probe() if gpu.uuid.startswith("GPU-")]
    whole = [row[:3] for row in smi("index", "uuid", "name", "mig.mode.current") if row[3] != "Enabled"]
    assert [row[1:] for row in found] == [row[1:] for row in whole]


def test_memory_is_the_drivers_within_a_mebibyte():
    by_uuid = {uuid: float(total) for uuid, total in smi("uuid", "memory.total")}
    for gpu in probe():
        if gpu.uuid in by_uuid:
            assert gpu.total_bytes / 2**20 == pytest.approx(by_uuid[gpu.uuid], abs=1)
        assert 0 <= gpu.used_bytes <= gpu.total_bytes
        assert gpu.free_bytes == gpu.total_bytes - gpu.used_bytes


def test_used_memory_follows_an_allocation():
    import torch

    index = 0
    uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
    block = torch.empty(2**20, device=f"cuda:{index}")  # makes the context
    before = next(gpu for gpu in probe() if gpu.uuid == uuid).used_bytes
    more = torch.empty(2**28, dtype=torch.uint8, device=f"cuda:{index}")
    torch.cuda.synchronize()
    assert next(gpu for gpu in probe() if gpu.uuid == uuid).used_bytes - before >= 2**28 * 0.9
    del block, more


def test_the_uuid_chooses_the_device():
    gpu = probe()[0]
    code = "import torch; print(torch.cuda.device_count(), torch.cuda.get_device_properties(0).total_memory)"
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu.uuid}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    count, memory_bytes = map(int, done.stdout.split())
    assert count == 1
    assert memory_bytes == pytest.approx(gpu.total_bytes, rel=0.1)


def test_the_driver_tells_its_version():
    assert driver_version() == smi("driver_version")[0][0]


def test_probing_is_cheap(capsys):
    """Reported, not judged: every node does it when it starts."""
    began_s = time.perf_counter()
    gpus = probe()
    with capsys.disabled():
        print(f"\nprobe of {len(gpus)} GPUs: {(time.perf_counter() - began_s) * 1000:.0f} ms")


def test_healthy_gpus_are_neither_missing_nor_in_error_and_a_strange_one_is_missing():
    health = GpuHealth([gpu.uuid for gpu in probe()])
    assert health.missing() == {}
    assert health.take_xids() == []
    strange = "GPU-00000000-0000-0000-0000-000000000000"
    assert list(GpuHealth([strange]).missing()) == [strange]

"""Through the real launcher: it never touches the GPU, its children do, and what each keeps there is known."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from models.nvml import process_bytes, processes
from models.runtimes.protocol import Device
from tests.gpu.wide import wide_folder
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import launcher, short_folder
from tests.models.runtimes.orders import order

pytestmark = [pytest.mark.gpu, pytest.mark.anyio]

GIB = 1 << 30


def devices_open(pid):
    """What of the GPU a process has open; nvidia-uvm is what starting CUDA opens."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(descriptor))
        except OSError:
            continue
    return {path for path in found if path.startswith("/dev/nvidia")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return wide_folder(tmp_path_factory.mktemp("wide"), GIB)


def wide(here, name, folder, gpu, **engine_args):
    device = Device(kind="cuda", uuid=gpu.uuid, memory_bytes=gpu.total_bytes, simulated=False)
    return order(
        here, name, source=folder, runtime="torch", device=device, python_class="tests.gpu.wide:Wide", **engine_args
    )


async def predict(ordered):
    status, told = await call(ordered.http_path, f"/v1/predict/{ordered.model_id}", {"inputs": [0, 1]})
    assert status == 200, told
    return told["outputs"]


async def test_children_compute_and_the_launcher_stays_clean(gpu, folder):
    with short_folder() as here, launcher(here, "torch") as running:
        await running.ready()
        assert "/dev/nvidia-uvm" not in devices_open(running.process.pid)
        engines = [await running.start(wide(here, name, folder, gpu)) for name in ("a", "b")]
        answers = await asyncio.gather(*(predict(engine.status.order) for engine in engines))
        assert answers[0] == answers[1]
        assert "/dev/nvidia-uvm" not in devices_open(running.process.pid)
        assert running.process.pid not in {process.pid for process in processes()}
        held = [process_bytes(engine.status.pid, gpu.uuid) for engine in engines]
        assert all((size or 0) > GIB for size in held)
        for engine in engines:
            await engine.call("stop")
            await engine.closed.wait()
        await asyncio.sleep(0.5)
        assert [process_bytes(engine.status.pid) for engine in engines] == [0, 0]


async def test_asleep_an_engine_keeps_its_residue_and_no_more(gpu, folder):
    with short_folder() as here, launcher(here, "torch") as running:
        await running.ready()
        engine = await running.start(wide(here, "a", folder, gpu))
        before = await predict(engine.status.order)
        awake = process_bytes(engine.status.pid, gpu.uuid) or 0
        for _ in range(3):
            asleep = await engine.call("sleep")
            residue = process_bytes(engine.status.pid, gpu.uuid) or 0
            assert awake - residue >= GIB * 0.98
            assert asleep.measured is not None
            assert asleep.measured.weights_bytes == 0
            assert asleep.measured.device_bytes == pytest.approx(residue, rel=0.02)
            awoken = await engine.call("wake")
            assert await predict(engine.status.order) == before
        print(f"\nresidue {residue >> 20} MiB; {awoken.timings_s}; {awoken.detail}")


async def test_an_engine_says_what_the_driver_says(gpu, folder):
    """Ledger against NVML: its kinds add up to the process's memory within 2%."""
    with short_folder() as here, launcher(here, "torch") as running:
        await running.ready()
        engine = await running.start(wide(here, "a", folder, gpu))
        await predict(engine.status.order)
        measured = (await engine.call("status")).measured
        held = process_bytes(engine.status.pid, gpu.uuid)
        assert measured is not None
        assert held is not None
        kinds = measured.weights_bytes + measured.kv_cache_bytes + measured.overhead_bytes
        print(f"\nkinds {kinds >> 20} MiB, driver {held >> 20} MiB")
        assert kinds == pytest.approx(held, rel=0.02)


async def test_checkpointed_an_engine_keeps_nothing(gpu, folder):
    with short_folder() as here, launcher(here, "torch") as running:
        await running.ready()
        engine = await running.start(wide(here, "a", folder, gpu, sleep="checkpoint"))
        before = await predict(engine.status.order)
        for _ in range(2):
            await engine.call("sleep")
            assert process_bytes(engine.status.pid, gpu.uuid) == 0
            awoken = await engine.call("wake")
            assert await predict(engine.status.order) == before
        print(f"\n{awoken.timings_s}")

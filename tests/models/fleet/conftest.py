"""The two fleets under one contract: in virtual time, and Ray's with a real launcher and real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.service import ray_head
from gateway.service.parts import environment
from models.catalog.gpus import SimulatedGpu
from models.fleet.protocol import Fleet, FleetNode, Superseded
from models.fleet.virtual import VirtualClock, VirtualFleet
from models.home import Home
from packers.types import Gpu, GpuId, NodeId, ReplicaId

MIB = 1 << 20
RUNTIME = "tests.models.fleet.tiny_runtime:runtime"
ROOT = str(Path(__file__).resolve().parents[3])


@dataclass
class Stage:
    """A fleet on one node with two GPUs, and how to do to it what the outside does."""

    fleet: Fleet
    node: FleetNode
    open_second: Callable[[], Awaitable[Fleet]]  # as a new controller would
    kill: Callable[[ReplicaId, int], Awaitable[None]]
    home: Path


@pytest.fixture(scope="session")
def ray_home() -> Iterator[Home]:
    """Ray's head and a launcher, as the service runs them; stopped at the end."""
    root = Path(tempfile.mkdtemp(prefix="rh-"))
    home = Home(root).create()
    ray_head.prepare(home)
    env = {**environment(home), **ray_head.environment(home), "PYTHONPATH": ROOT}
    launcher = (sys.executable, "-m", "models.runtimes.launcher", "--socket", str(home.launcher_socket))
    commands = [ray_head.command(home), (*launcher, "--scratch", str(home.cache), "--runtimes", RUNTIME)]
    log = open(root / "parts.log", "wb")  # noqa: SIM115
    parts = [subprocess.Popen(c, env=env, stdout=log, stderr=log, start_new_session=True) for c in commands]
    try:
        _wait_for(ray_head.started_file(home).exists, parts)
        yield home
    finally:
        _stop(parts, home)
        log.close()
        shutil.rmtree(root, ignore_errors=True)


def _wait_for(ready: Callable[[], bool], parts: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, "Ray did not start"
        assert all(part.poll() is None for part in parts)
        time.sleep(0.05)


def _stop(parts: list[subprocess.Popen[bytes]], home: Home) -> None:
    from tests.e2e.service import processes_of

    for part in parts:
        part.send_signal(signal.SIGTERM)
    for part in parts:
        try:
            part.wait(10)
        except subprocess.TimeoutExpired:
            part.kill()
    for pid in processes_of(home.root):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def ray_session(ray_home: Home) -> Iterator[Home]:
    before = dict(os.environ)
    os.environ.update(ray_head.environment(ray_home))
    import ray

    ray.init(address=ray_head.address(ray_home), namespace="roundhouse", log_to_driver=False)
    yield ray_home
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)


@asynccontextmanager
async def _ray_stage(home: Home) -> AsyncIterator[Stage]:
    from models.fleet.ray_fleet import RayFleet

    opened: list[RayFleet] = []

    async def open_one() -> Fleet:
        fleet = await RayFleet(str(home.root), (SimulatedGpu(100 * MIB),) * 2, 1000 * MIB).open()
        opened.append(fleet)
        return fleet

    first = await open_one()

    async def kill(replica: ReplicaId, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    (node,) = await first.nodes()
    try:
        yield Stage(first, node, open_one, kill, home.root)
    finally:
        for fleet in opened:
            home.fence.unlink(missing_ok=True)  # an earlier controller's last word counts, too
            # What the next one has said and is still under way may be heard in between: then that one stops them all.
            with suppress(Superseded) if fleet is not opened[-1] else nullcontext():
                await fleet.stop_all()
            await fleet.close()
        home.fence.unlink(missing_ok=True)  # the next stage is nobody's successor


@asynccontextmanager
async def _virtual_stage() -> AsyncIterator[Stage]:
    node = NodeId("n")
    gpus = tuple(Gpu(GpuId(f"n/gpu-{i}"), node, i, 100 * MIB) for i in range(2))
    shown = FleetNode(id=node, address="127.0.0.1", host_bytes=1000 * MIB, gpus=gpus, run_dir="/run/x")
    clock = VirtualClock()
    fleet = VirtualFleet((shown,), clock, start_s=0, wake_s=0, sleep_s=0, stop_s=0)

    async def open_second() -> Fleet:
        return fleet.beside()

    async def kill(replica: ReplicaId, pid: int) -> None:
        await fleet.kill(replica)

    yield Stage(fleet, shown, open_second, kill, Path("/"))


@pytest.fixture(params=["virtual", "ray"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "virtual":
        async with _virtual_stage() as made:
            yield made
    else:
        async with _ray_stage(request.getfixturevalue("ray_session")) as made:
            yield made

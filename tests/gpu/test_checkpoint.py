"""The driver's checkpoint of a whole process: there and back, no residue, and what it can and cannot take along."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from models.cuda.checkpoint import CheckpointTier, Helper
from models.nvml import process_bytes
from models.runtimes.protocol import EngineError

pytestmark = [pytest.mark.gpu, pytest.mark.anyio]

# A process that computes one number whenever it is asked, over memory of each kind that engines hold.
COMPUTES = """
import sys, torch
from models.cuda.pinned import PinnedPool
from models.cuda.torch_calls import TorchCalls
calls = TorchCalls()
kinds = sys.argv[1].split(",")
held = []
if "pinned" in kinds:
    pool = PinnedPool(calls)
    pool.reserve(256 << 20)
    held.append(pool)
if "file" in kinds:
    import os
    from models.cuda.mapped import FileMapping, MappedFile
    status = os.stat(sys.argv[2])
    file = MappedFile(FileMapping(0, status.st_size, 0, status.st_dev, status.st_ino, sys.argv[2], 0))
    print("file:", file.pin(calls) or "registered", file=sys.stderr)
    held.append(file)
x = torch.randn(4096, 4096, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
graph = None
if "graph" in kinds:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x @ x
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x @ x
print("ready", flush=True)
for _ in sys.stdin:
    if graph is not None:
        graph.replay()
        print(float(y.sum()), flush=True)
    else:
        print(float((x @ x).sum()), flush=True)
"""


class Computer:
    def __init__(self, kinds, path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMPUTES, kinds, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.read() == "ready"

    def read(self):
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self):
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture
def computer(gpu, tmp_path):
    made = []

    def _computer(kinds):
        path = tmp_path / "weights"
        path.write_bytes(bytes(64 << 20))
        made.append(Computer(kinds, path))
        return made[-1]

    yield _computer
    for one in made:
        one.process.kill() if one.process.poll() is None else None
        one.process.wait()


@pytest.mark.parametrize("kinds", ["plain", "pinned", "file", "graph", "pinned,file,graph"])
async def test_there_and_back_without_residue(kinds, computer, gpu):
    """Each kind alone, so that a driver that cannot take one of them along is seen to."""
    other = computer(kinds)
    other.ask()
    before = other.read()
    tier = CheckpointTier(Helper(), lambda: process_bytes(other.process.pid, gpu.uuid), other.process.pid)
    held = process_bytes(other.process.pid, gpu.uuid)
    assert held
    for _ in range(2):
        await tier.suspend()
        assert process_bytes(other.process.pid, gpu.uuid) == 0
        assert tier.host_bytes == pytest.approx(held, rel=0.02)
        await tier.resume()
        other.ask()
        assert other.read() == before
    print(f"\n{kinds}: {tier.timings_s}")
    await tier.close()


async def test_calls_wait_while_it_is_away(computer, gpu):
    other = computer("plain")
    tier = CheckpointTier(Helper(), lambda: process_bytes(other.process.pid, gpu.uuid), other.process.pid)
    await tier.suspend()
    other.ask()
    answer = asyncio.create_task(asyncio.to_thread(other.read))
    await asyncio.sleep(0.5)
    assert not answer.done()
    await tier.resume()
    assert float(await asyncio.wait_for(answer, 60)) != 0.0
    await tier.close()


@pytest.fixture
def sleeper():
    """A process that never heard of CUDA."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


async def test_a_process_without_cuda_is_refused(gpu, sleeper):
    tier = CheckpointTier(Helper(), lambda: 0, sleeper.pid)
    with pytest.raises(EngineError):
        await tier.suspend()
    await tier.close()

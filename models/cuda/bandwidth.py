"""How fast bytes reach a GPU from host memory: ``python -m models.cuda.bandwidth``, in a process that then ends.

A node asks once (``measured_link``); nothing that forks or lives long may start CUDA for it. The figure is what packers
take for a wake (``Node.link_bytes_per_s``) and what goal C5 is measured against.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from models.cuda.calls import CannotRegister, CudaCalls
from models.cuda.copies import Staging, timed_copy
from models.cuda.host_memory import HostMemory
from models.cuda.pinned import PinnedPool
from models.runtimes.protocol import EngineError

Kind = Literal["pinned", "pageable", "staged", "registered file"]
SIZE_BYTES = 1 << 30
PASSES = 5
PATIENCE_S = 120.0


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes_per_s``: the median of ``passes``; 0 with a reason in ``why`` where this kind is not possible."""

    kind: Kind
    size_bytes: int
    bytes_per_s: float
    passes: tuple[float, ...] = ()
    why: str = ""


def measure_host_to_device(calls: CudaCalls, size_bytes: int = SIZE_BYTES, passes: int = PASSES) -> Bandwidth:
    """From pinned memory, the most that a wake can reach. Raises EngineError without the memory for it."""
    return _pinned(calls, size_bytes, passes)


def measure_all(calls: CudaCalls, folder: Path, size_bytes: int = SIZE_BYTES, passes: int = PASSES) -> list[Bandwidth]:
    """Every kind of host memory that weights may lie in. ``folder``: for a file of ``size_bytes``."""
    return [
        _pinned(calls, size_bytes, passes),
        _pageable(calls, size_bytes, passes),
        _staged(calls, size_bytes, passes),
        _registered_file(calls, folder, size_bytes, passes),
    ]


def _pinned(calls: CudaCalls, size_bytes: int, passes: int) -> Bandwidth:
    pool = PinnedPool(calls)
    try:
        pool.reserve(size_bytes)
        source = pool.take(size_bytes, "a measurement").bytes
        target = calls.allocate(size_bytes)
        timed_copy(calls, target, source)  # the first one finds nothing prepared
        if not pool.pinned:
            return Bandwidth(kind="pinned", size_bytes=size_bytes, bytes_per_s=0, why="the memory could not be pinned")
        return _result("pinned", size_bytes, [timed_copy(calls, target, source) for _ in range(passes)])
    finally:
        pool.close()


def _pageable(calls: CudaCalls, size_bytes: int, passes: int) -> Bandwidth:
    memory = HostMemory(size_bytes)
    target, source = calls.allocate(size_bytes), memory.bytes[:size_bytes]
    timed_copy(calls, target, source)
    return _result("pageable", size_bytes, [timed_copy(calls, target, source) for _ in range(passes)])


def _staged(calls: CudaCalls, size_bytes: int, passes: int) -> Bandwidth:
    memory, pool = HostMemory(size_bytes), PinnedPool(calls)
    try:
        staging = Staging(pool)
        target, source = calls.allocate(size_bytes), memory.bytes[:size_bytes]

        def once() -> float:
            stream = calls.stream()
            began = stream.record()
            staging.copy(stream, target, source)
            ended = stream.record()
            ended.wait()
            return ended.seconds_since(began)

        once()
        times_s = [once() for _ in range(passes)]
        staging.close()
        return _result("staged", size_bytes, times_s)
    finally:
        pool.close()


def _registered_file(calls: CudaCalls, folder: Path, size_bytes: int, passes: int) -> Bandwidth:
    from models.cuda.mapped import FileMapping, MappedFile

    with tempfile.NamedTemporaryFile(dir=folder, prefix="bandwidth-") as written:
        os.posix_fallocate(written.fileno(), 0, size_bytes)
        status = os.fstat(written.fileno())
        file = MappedFile(FileMapping(0, size_bytes, 0, status.st_dev, status.st_ino, written.name, 0))
        why = file.pin(calls)
        if why:
            return Bandwidth(kind="registered file", size_bytes=size_bytes, bytes_per_s=0, why=why)
        try:
            target = calls.allocate(size_bytes)
            timed_copy(calls, target, file.bytes)
            return _result(
                "registered file", size_bytes, [timed_copy(calls, target, file.bytes) for _ in range(passes)]
            )
        finally:
            file.unpin(calls)


def _result(kind: Kind, size_bytes: int, times_s: list[float]) -> Bandwidth:
    rates = tuple(size_bytes / time_s for time_s in times_s)
    return Bandwidth(kind=kind, size_bytes=size_bytes, bytes_per_s=statistics.median(rates), passes=rates)


class LinkUnknown(Exception):
    """The bus could not be measured; the message says why."""


async def measured_link(uuid: str, size_bytes: int = SIZE_BYTES) -> float:
    """Bytes a second to the GPU ``uuid``, by a process of its own. Raises LinkUnknown."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "models.cuda.bandwidth",
        "--size-bytes",
        str(size_bytes),
        env={**os.environ, "CUDA_VISIBLE_DEVICES": uuid},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, said = await process.communicate()
    except TimeoutError as problem:
        process.kill()
        await process.wait()
        raise LinkUnknown(f"the bus to {uuid} was not measured within {PATIENCE_S:g} s") from problem
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise LinkUnknown(f"the bus to {uuid} could not be measured: {last}")
    return msgspec.json.decode(out, type=Bandwidth).bytes_per_s


def main(make: Callable[[], CudaCalls] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.cuda.bandwidth", description="Measures the bus to the GPU.")
    parser.add_argument("--size-bytes", type=int, default=SIZE_BYTES, metavar="N", help="of one copy (%(default)s)")
    size_bytes: int = parser.parse_args().size_bytes
    try:
        found = measure_host_to_device((make or _real_calls)(), size_bytes)
    except (CannotRegister, EngineError, RuntimeError, AssertionError) as problem:
        # torch asserts that it was built with CUDA; the driver's reasons are RuntimeErrors.
        print(f"the GPU cannot be used: {problem}", file=sys.stderr)  # noqa: T201 - this is a command
        return 1
    print(msgspec.json.encode(found).decode())  # noqa: T201
    return 0


def _real_calls() -> CudaCalls:
    from models.cuda.torch_calls import TorchCalls

    return TorchCalls()


if __name__ == "__main__":
    sys.exit(main())

"""What every part of the benchmark uses: engines that run, callers, files of requests, a key."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.gateway import traffic
from loadtests.gateway.callers import WARMUP_S, Callers
from loadtests.gateway.cores import Cores, one_core
from loadtests.gateway.fake_engine import fake_engine
from loadtests.gateway.native import Programs, compile_programs
from loadtests.gateway.ports import free_ports
from loadtests.gateway.scene import Scene

REPLICAS = 4  # ports that the engine listens on
SEED = 5


@dataclass(frozen=True, slots=True)
class Files:
    """Requests, as the program ``load`` reads them. ``paced_request``: for callers that are no program."""

    plain: Path
    varied: Path
    burst: Path
    paced: Path
    brief: Path
    held: Path
    paced_request: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bench:
    folder: Path
    programs: Programs
    available: Collection[int]
    cores: Cores
    callers: Callers
    engine_ports: tuple[int, ...]
    files: Files
    key: str = field(repr=False)
    peers: Path | None
    seconds: float

    def scene(self, models: int = 0, workers: int = 1) -> Scene:
        return Scene(self.folder, self.engine_ports, self.key, self.cores.gateway, self.peers, models, workers)


@contextlib.contextmanager
def bench(seconds: float, peers: Path | None = None) -> Iterator[Bench]:
    """In a private folder that is gone afterwards. Raises CannotMeasure."""
    folder = Path(tempfile.mkdtemp(prefix="rh-"))
    try:
        raise_open_files()
        programs = compile_programs(folder)
        available = sorted(os.sched_getaffinity(0))
        cores = one_core(available)
        ports = free_ports(REPLICAS)
        key = f"rh-{secrets.token_hex(24)}"
        with fake_engine(programs.engine, ports, cores.engine, folder / "engine.log"):
            callers = Callers(programs.load, cores.load, min(WARMUP_S, seconds))
            files = write_files(folder, key)
            yield Bench(folder, programs, available, cores, callers, ports, files, key, peers, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_files(folder: Path, key: str) -> Files:
    def stream(model: str) -> bytes:
        return traffic.request(traffic.chat(model, stream=True), key)

    def write(name: str, *requests: bytes) -> Path:
        return traffic.write_requests(folder / f"{name}.requests", requests)

    paced = stream(traffic.PACED)
    return Files(
        plain=write("plain", traffic.request(traffic.chat(traffic.PLAIN), key)),
        varied=write("varied", *traffic.varied(key, random.Random(SEED))),
        burst=write("burst", stream(traffic.BURST)),
        paced=write("paced", paced),
        brief=write("brief", stream(traffic.BRIEF)),
        held=write("held", stream(traffic.HELD)),
        paced_request=paced,
    )


def raise_open_files() -> int:
    """As many open files as the system lets this process, and what it starts, have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

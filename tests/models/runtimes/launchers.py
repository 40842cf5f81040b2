"""Starts a real launcher for a test and ends it, and whatever it has forked, afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.runtimes.client import EngineConnection, LauncherClient
from models.runtimes.protocol import EngineOrder, LauncherStatus

REPO = Path(__file__).resolve().parents[3]
PATIENCE_S = 120.0


@dataclass
class RunningLauncher:
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def socket_path(self) -> Path:
        return self.folder / "l.sock"

    @property
    def client(self) -> LauncherClient:
        return LauncherClient(self.socket_path)

    @property
    def log(self) -> str:
        return (self.folder / "launcher.log").read_text()

    async def ready(self) -> LauncherStatus:
        """Its status once it has warmed everything."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                status = await self.client.ping()
                if status.ready:
                    return status
            assert self.process.poll() is None, self.log
            await asyncio.sleep(0.02)
        raise AssertionError(f"the launcher is not ready after {PATIENCE_S} s\n{self.log}")

    async def start(self, order: EngineOrder) -> EngineConnection:
        """A ready engine. Raises EngineError."""
        connection = await self.client.start(order)
        try:
            await connection.wait_ready()
        except BaseException:
            await connection.close()
            raise
        return connection

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Unix socket paths must stay short, which pytest's own folders do not."""
    with tempfile.TemporaryDirectory(prefix="rh-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def launcher(
    folder: Path, runtimes: str, *arguments: str, first_on_path: Path | None = None
) -> Iterator[RunningLauncher]:
    """``first_on_path``: what is imported from there is not taken from where it is installed."""
    environment = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_ARENA_MAX": "2",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(str(path) for path in (first_on_path, REPO) if path is not None),
    }
    environment.pop("OMP_NUM_THREADS", None)  # engines share the cores, as they do where nobody has set it
    command = [sys.executable, "-m", "models.runtimes.launcher", "--socket", str(folder / "l.sock")]
    command += ["--scratch", str(folder / "scratch"), "--runtimes", runtimes, *arguments]
    with (folder / "launcher.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=REPO, env=environment, stdout=log, stderr=log)
    running = RunningLauncher(folder, process)
    try:
        yield running
    finally:
        running.end()
        end_engines(folder)


def end_engines(folder: Path) -> None:
    """Engines outlive their launcher by design; those of a test must not outlive the test."""
    for pid in engine_pids(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def engine_pids(folder: Path) -> list[int]:
    """Processes that write to a log below ``folder``."""
    found = []
    for standard_error in Path("/proc").glob("[0-9]*/fd/2"):
        with contextlib.suppress(OSError):
            if os.readlink(standard_error).startswith(str(folder / "logs")):
                found.append(int(standard_error.parts[2]))
    return found


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def until_gone(pid: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while is_alive(pid):
        assert time.monotonic() < until, f"process {pid} does not end"
        await asyncio.sleep(0.01)

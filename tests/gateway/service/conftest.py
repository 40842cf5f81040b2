from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.service.parts import SOURCE_ROOT
from gateway.service.processes import send
from gateway.service.record import processes
from models.home import Home

Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def home() -> Iterator[Home]:
    """Short, so that sockets fit below it. Whatever a test has left of it is killed, and that fails the test."""
    root = Path(tempfile.mkdtemp(prefix="rh-"))
    found = Home.find(root).create()
    yield found
    left = processes(found)
    for process in left:
        send(process, signal.SIGKILL)
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(found.run, ignore_errors=True)
    assert not left, "the test left processes behind"


@pytest.fixture
def start() -> Iterator[Started]:
    """Starts processes that are killed when the test is over."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*command: str, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, text=True, **{"cwd": SOURCE_ROOT, **options})  # type: ignore[call-overload]
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield start_one
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

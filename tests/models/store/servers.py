"""A Redis of the tests' own that listens on TCP, as a production one would; same binary as the embedded one."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from models.store.binary import find_redis_server


@contextmanager
def tcp_redis(*options: str) -> Iterator[int]:
    """The port of a server on loopback that keeps nothing."""
    port = free_port()
    command = [str(find_redis_server()), "--bind", "127.0.0.1", "--port", str(port), "--save", "", *options]
    with tempfile.TemporaryDirectory(prefix="rh-") as folder:
        process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the test's Redis ended with code {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    raise AssertionError("the test's Redis does not listen")

"""Server processes that the benchmark starts: a free port, their own session, an end that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

STOP_WAIT_S = 20.0
TAIL_BYTES = 4000


def free_port() -> int:
    """A port that was free a moment ago; whoever takes it next has it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], environ: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a session of its own, its output in ``log``; at the end the whole session is ended."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        end_session(process)


def end_session(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the leader's group, then SIGKILL to what is left of it."""
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WAIT_S)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signum)


def tail(log: Path) -> str:
    """The end of a log, for an error message."""
    try:
        return log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""

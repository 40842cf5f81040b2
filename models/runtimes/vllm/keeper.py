"""``python -m models.runtimes.vllm.keeper SOCKET COMMAND...``: runs a server that ends with whoever holds our stdin.

vLLM's server is several processes, and killing the first leaves the others. This one stands between: when its standard
input ends, because its engine's process closed it or died in whatever way, it kills all of them. When the server ends
by itself, the rest is killed, too, and its exit code becomes ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SIGNALLED = 128  # an exit code above it tells a signal, as shells do


def main() -> int:
    socket_path, *command = sys.argv[1:]
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what the server leaves behind becomes ours

    def die_with_keeper() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    # This process has one thread, so the code between fork and exec is safe.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_keeper)
    with contextlib.suppress(KeyboardInterrupt):
        _wait(server)
    code = server.poll()
    _kill_all(server)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket_path)
    if code is None:
        return 0
    return code if code >= 0 else SIGNALLED - code


def _wait(server: subprocess.Popen[bytes]) -> None:
    """Until the server has ended or our stdin has."""
    pidfd = os.pidfd_open(server.pid)
    while True:
        readable, _, _ = select.select([pidfd, 0], [], [])
        if pidfd in readable or not os.read(0, 4096):
            return


def _kill_all(server: subprocess.Popen[bytes]) -> None:
    """The server's group, and whatever else is below us, until nothing is."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            for child in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    me = os.getpid()
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()]
    return []


if __name__ == "__main__":
    sys.exit(main())

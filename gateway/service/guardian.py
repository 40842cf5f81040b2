"""The supervisor's side of its guard: starts it, replaces it when it ends, and tells it when all is done."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

from gateway.service import guard
from gateway.service.parts import environment
from gateway.service.processes import ProcessId, identify
from models.home import Home

SHORTEST_LIFE_S = 1.0  # one that ends sooner would only end again


class Guardian:
    def __init__(self, home: Home) -> None:
        """Starts the guard. Raises OSError."""
        self._home = home
        self._process = self._start()
        self._given_up = False

    @property
    def id(self) -> ProcessId | None:
        return identify(self._process.pid)

    def check(self) -> str | None:
        """Replace the guard if it has ended; what to say of it, or None. Raises OSError."""
        if self._given_up or self._process.poll() is None:
            return None
        lived_s = time.monotonic() - self._started_s
        if lived_s < SHORTEST_LIFE_S:
            self._given_up = True
            return "does not run: if this process is killed, the next `up` or `down` has to clear up"
        self._process = self._start()
        return "ended; another one was started"

    def dismiss(self) -> None:
        """It is not needed any more: there is nothing left to clear up."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(guard.GOODBYE)
            self._process.stdin.close()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_s = time.monotonic()
        return subprocess.Popen(
            (sys.executable, "-m", guard.__name__, str(self._home.root)),
            env=environment(self._home),
            cwd=self._home.logs,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

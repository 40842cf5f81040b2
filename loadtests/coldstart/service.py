"""A service of the benchmark's own: ``roundhouse up`` in a fresh home, timed to its first answer, and ``down``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.coldstart.child import tail
from loadtests.coldstart.passes import first_token_s
from loadtests.target import Target, TargetError, find_target
from loadtests.wire import CallFailed

ROOT = Path(__file__).resolve().parents[2]
UP_TIMEOUT_S = 300.0
AFTER_UP_TIMEOUT_S = 60.0
DOWN_TIMEOUT_S = 90.0
POLL_S = 0.05


class ServiceFailed(CallFailed):
    """``roundhouse up`` or ``down`` did not do its work; the message has the end of its output."""


@dataclass(frozen=True, slots=True)
class OwnService:
    """``command``: how to call the command line. It runs in ``home``, out of reach of a roundhouse.yaml lying about.

    ``config``: what it serves; None for the demo.
    """

    home: Path
    port: int
    command: tuple[str, ...] = (sys.executable, "-m", "gateway.cli")
    config: Path | None = None

    @property
    def log(self) -> Path:
        return self.home / "up.log"

    def up(self, model: str, ask: Callable[[Target, str], float] = first_token_s) -> tuple[Target, float]:
        """Start it; where it listens, and the seconds from the command to the first token of ``model``.

        Asks from the first moment on, because that is what "until the first answer" means. Raises ServiceFailed.
        """
        began_s = time.perf_counter()
        with self.log.open("wb") as output:
            args = [*self.command, "up", "--detach", "--home", str(self.home), "--port", str(self.port)]
            args += ["--config", str(self.config)] if self.config else []
            process = subprocess.Popen(
                args, cwd=self.home, env=self.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        problem: Exception = CallFailed("nothing was tried")
        give_up_s = began_s + UP_TIMEOUT_S
        while time.perf_counter() < give_up_s:
            try:
                target = find_target({"ROUNDHOUSE_HOME": str(self.home)})
                asked_s = time.perf_counter()
                return target, asked_s + ask(target, model) - began_s
            except (TargetError, CallFailed) as still:
                problem = still
            if process.poll():
                raise ServiceFailed(f"`roundhouse up` exited with {process.returncode}:\n{tail(self.log)}")
            if process.returncode == 0:  # it says that it serves
                give_up_s = min(give_up_s, time.perf_counter() + AFTER_UP_TIMEOUT_S)
            time.sleep(POLL_S)
        waited_s = time.perf_counter() - began_s
        raise ServiceFailed(f"no answer within {waited_s:.0f} s of `roundhouse up` ({problem}):\n{tail(self.log)}")

    def down(self) -> None:
        """Raises ServiceFailed."""
        args = [*self.command, "down", "--home", str(self.home)]
        done = subprocess.run(
            args,
            cwd=self.home,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=DOWN_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceFailed(f"`roundhouse down` exited with {done.returncode}:\n{done.stdout}{done.stderr}")

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")}
        return kept | {"ROUNDHOUSE_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

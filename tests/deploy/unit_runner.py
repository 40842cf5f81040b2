"""Runs the units' own commands the way systemd would, in a folder instead of on the machine, for tests."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.deploy.unit_file import Unit

COMMAND = "/opt/roundhouse/.venv/bin/roundhouse"
ROOT = Path(__file__).resolve().parents[2]


class UnitRunner:
    """Honours commands, environment, KillMode and KillSignal. Processes log into ``home/units.log``.

    Everything a unit starts is in a session of its own, as in a cgroup of its own, but for engines, which leave it.
    """

    def __init__(self, units: dict[str, Unit], home: Path, config_folder: Path) -> None:
        self._units = units
        self._home = home
        self._config_folder = config_folder
        self._main: dict[str, subprocess.Popen[bytes]] = {}
        self._log = home / "units.log"

    def start(self, name: str) -> None:
        unit = self._units[name]
        for line in unit.settings.get("ExecStartPre", []):
            self._run(unit, line)
        (start,) = unit.settings["ExecStart"]
        with self._log.open("ab") as log:
            environ = self._environ(unit)
            process = subprocess.Popen(
                self._words(start), env=environ, cwd=self._home, stdout=log, stderr=log, start_new_session=True
            )
        self._main[name] = process
        for line in unit.settings.get("ExecStartPost", []):
            self._run(unit, line, MAINPID=str(process.pid))

    def stop(self, name: str) -> None:
        """KillSignal to the main process, or to all of its session; SIGKILL after TimeoutStopSec."""
        unit, process = self._units[name], self._main.pop(name)
        asked = signal.Signals[unit.settings.get("KillSignal", ["SIGTERM"])[-1]]
        whole = unit.settings.get("KillMode", ["control-group"])[-1] == "control-group"
        (os.killpg if whole else os.kill)(process.pid, asked)
        try:
            process.wait(float(unit.one("TimeoutStopSec")))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, name: str) -> None:
        """With those that are part of it, each after what it is ordered after."""
        along = [other for other in self._main if name in self._units[other].words("PartOf")]
        for each in reversed([name, *along]):
            self.stop(each)
        for each in [name, *along]:
            self.start(each)

    def stop_commands(self, name: str) -> None:
        unit = self._units[name]
        for line in unit.settings["ExecStop"]:
            self._run(unit, line)

    def kill_all(self) -> None:
        for process in self._main.values():
            process.kill()
            process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    def _run(self, unit: Unit, line: str, **more: str) -> None:
        environ = self._environ(unit) | more
        done = subprocess.run(self._words(line), env=environ, cwd=self._home, timeout=120, check=False)
        assert done.returncode == 0, f"{unit.name}: {line} ended with {done.returncode}\n{self.log()}"

    def _words(self, line: str) -> list[str]:
        placed = line.replace("/var/lib/roundhouse", str(self._home)).replace(
            "/etc/roundhouse", str(self._config_folder)
        )
        words = shlex.split(placed)
        return [sys.executable, "-m", "gateway.cli", *words[1:]] if words[0] == COMMAND else words

    def _environ(self, unit: Unit) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")}
        given = {
            name: value.replace("/var/lib/roundhouse", str(self._home)) for name, value in unit.environment().items()
        }
        return kept | given | {"PYTHONPATH": str(ROOT)}


def until_gone(pid: int, timeout_s: float = 30) -> bool:
    """Whether the process ends in time; one that nobody has reaped counts as ended."""
    deadline_s = time.monotonic() + timeout_s
    stat = Path(f"/proc/{pid}/stat")
    while time.monotonic() < deadline_s:
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False

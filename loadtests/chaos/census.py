"""Which processes of an installation there are, from /proc: what each is, and which replica an engine is of."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

INSTANCE_ENV = "ROUNDHOUSE_INSTANCE"
PROC = Path("/proc")
ENDED = "ZXx"
ENGINE = "engine"

# What a command line holds -> the kind of process; the first that fits.
KINDS = (
    ("gateway.service.guard", "guard"),
    ("gateway.server", "gateway"),
    ("gateway.cli", "supervisor"),
    ("models.runtimes.launcher.zygote", "zygote"),
    ("models.runtimes.launcher", "launcher"),
    ("redis-server", "redis"),
    ("models.store.server", "redis"),
    ("gcs/gcs_server", "gcs"),
    ("raylet/raylet", "raylet"),
    ("ray::ControllerActor", "controller"),
    ("ray::NodeActor", "node actor"),
    ("ray::KeeperActor", "keeper"),
    ("ray.scripts.scripts", "ray"),
    ("models.control", "control"),
    ("ray", "ray's own"),
)


@dataclass(frozen=True, slots=True)
class Process:
    """``start_ticks``: from the machine's boot to its start, since pids are used again. ``replica``: of an engine."""

    pid: int
    start_ticks: int
    parent: int
    kind: str
    replica: str = ""

    def send(self, signum: signal.Signals) -> bool:
        """Signal this very process; False when it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():  # the handle pins whoever has the pid now: only then it is safe to ask who that is
                return False
            signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def alive(self) -> bool:
        found = _stat(self.pid)
        return found is not None and found[2] == self.start_ticks


class Census:
    """Looks again and again; remembers which processes are the installation's, because few ever change."""

    def __init__(self, instance: str, engine_logs: Path) -> None:
        self._mark = f"{INSTANCE_ENV}={instance}".encode()
        self._logs = str(engine_logs)
        self._known: dict[int, tuple[int, bool]] = {}  # pid -> start ticks, whether it is ours

    def look(self) -> tuple[Process, ...]:
        """Every living process that carries the installation's mark; the asking one is never among them."""
        found, known = [], {}
        for name in os.listdir(PROC):
            if name.isdigit() and int(name) != os.getpid() and (shown := _stat(int(name))):
                pid, (_, parent, start_ticks) = int(name), shown
                before = self._known.get(pid)
                ours = before[1] if before and before[0] == start_ticks else self._marked(pid)
                if ours is not None:
                    known[pid] = (start_ticks, ours)
                if ours:
                    found.append(self._described(pid, parent, start_ticks))
        self._known = known
        return tuple(found)

    def engines(self) -> tuple[Process, ...]:
        return tuple(process for process in self.look() if process.kind == ENGINE)

    def _marked(self, pid: int) -> bool | None:
        """None: somebody else's, or just being made, and to be looked at again."""
        try:
            environ = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return None
        return self._mark in environ.split(b"\0") if environ else None

    def _described(self, pid: int, parent: int, start_ticks: int) -> Process:
        kind = kind_of(_command(pid))
        replica = self._replica(pid) if kind == "zygote" else ""
        return Process(pid, start_ticks, parent, ENGINE if replica else kind, replica)

    def _replica(self, pid: int) -> str:
        """An engine is a forked child that has got an order: from then on it writes to that replica's log."""
        try:
            output = os.readlink(PROC / str(pid) / "fd" / "1")
        except OSError:
            return ""
        folder, _, name = output.rpartition("/")
        return name.removesuffix(".log") if folder == self._logs else ""


def kind_of(command: str) -> str:
    return next((kind for part, kind in KINDS if part in command), "other")


def count(processes: Iterable[Process]) -> Counter[str]:
    return Counter(process.kind for process in processes)


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start in ticks; None for a process that has ended."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    words = text[text.rindex(b")") + 2 :].split()  # its name may hold anything
    state = words[0].decode()
    return None if state in ENDED else (state, int(words[1]), int(words[19]))


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""

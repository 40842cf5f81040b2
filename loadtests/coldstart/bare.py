"""A launcher and its engines, nothing before them: no gateway, no controller, no Ray. JSON lines on unix sockets."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.coldstart.child import running, tail
from loadtests.target import Target
from loadtests.wire import CallFailed

WARM_TIMEOUT_S = 180.0
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
SWITCH_TIMEOUT_S = 60.0
POLL_S = 0.02
MIB = 2**20


class BareFailed(CallFailed):
    """The launcher or an engine did not do its work; the message has its own words."""


class Wire:
    """One connection to a launcher or an engine: a JSON object a line, both ways."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._pending = b""

    def say(self, message: Mapping[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def messages(self, timeout_s: float) -> Iterator[Mapping[str, Any]]:
        """Until the other side hangs up. Raises BareFailed when it says nothing for so long."""
        self._socket.settimeout(timeout_s)
        while True:
            line, newline, rest = self._pending.partition(b"\n")
            if newline:
                self._pending = rest
                yield json.loads(line)
                continue
            try:
                piece = self._socket.recv(65536)
            except TimeoutError:
                raise BareFailed(f"no answer on the control wire within {timeout_s:g} s") from None
            if not piece:
                return
            self._pending += piece

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True, slots=True)
class BareEngine:
    """A running engine. ``status`` is what it said when it was ready."""

    target: Target
    control: Wire
    status: Mapping[str, Any]

    @property
    def pid(self) -> int:
        return int(self.status["pid"])

    def call(self, operation: str) -> Mapping[str, Any]:
        """The engine's status after ``sleep``, ``wake`` or ``status``. Raises BareFailed."""
        self.control.say({"seq": 1, "op": operation})
        for message in self.control.messages(START_TIMEOUT_S):
            if "seq" in message:
                if not message["ok"]:
                    raise BareFailed(f"the engine refused to {operation}: {message['error']}")
                status: Mapping[str, Any] = message["status"]
                return status
        raise BareFailed(f"the engine hung up when it was told to {operation}")

    def stop(self) -> None:
        """Returns once its process is gone. Raises BareFailed."""
        with contextlib.suppress(OSError):
            self.control.say({"seq": 2, "op": "stop"})
        give_up_s = time.monotonic() + STOP_TIMEOUT_S
        while _lives(self.pid):
            if time.monotonic() > give_up_s:
                raise BareFailed(f"the engine still runs {STOP_TIMEOUT_S:g} s after it was told to stop")
            time.sleep(POLL_S / 10)
        self.control.close()

    def settle(self) -> str:
        """Wait until its weights are as they will stay; how they lie then (the status' ``detail.weights``)."""
        give_up_s = time.monotonic() + SWITCH_TIMEOUT_S
        while (lie := str(self.call("status")["detail"].get("weights", "copied"))) in ("mapped", "packing"):
            if time.monotonic() > give_up_s:
                break
            time.sleep(POLL_S)
        return lie


@dataclass(frozen=True, slots=True)
class BareLauncher:
    """``folder``: short enough for unix sockets; everything of this launcher lies in it."""

    folder: Path
    pid: int

    def start(self, model: str, source: Path, weights_mib: int, kv_mib: int, **changed: Any) -> BareEngine:
        """Order an engine and wait until it is ready. Raises BareFailed in the engine's words."""
        order = self._order(model, source, weights_mib, kv_mib) | changed
        control = Wire(self.folder / "launcher.sock")
        control.say({"op": "start", "order": order})
        problem = "the engine hung up while it was loading"
        for message in control.messages(START_TIMEOUT_S):
            if message.get("state") == "ready":
                return BareEngine(Target(f"unix:{order['http_path']}"), control, message)
            if message.get("state") == "failed" or "refused" in message:
                problem = message.get("error") or message["refused"]
                break
        control.close()
        raise BareFailed(f"{model}: {problem}")

    def _order(self, model: str, source: Path, weights_mib: int, kv_mib: int) -> dict[str, Any]:
        name = f"{model}-{time.monotonic_ns():x}"
        layouts = self.folder / "layouts" / model
        layouts.mkdir(parents=True, exist_ok=True)
        return {
            "replica_id": name,
            "model_id": model,
            "served_names": [model],
            "runtime": "vllm",
            "source": str(source),
            "engine_args": {"max_model_len": 1024},
            "device": {"kind": "cpu", "memory_bytes": 4096 * MIB, "simulated": True},
            "budget": {
                "weights_bytes": weights_mib * MIB,
                "kv_cache_bytes": kv_mib * MIB,
                "overhead_bytes": 64 * MIB,
            },
            "http_path": str(self.folder / f"{name}.http"),
            "control_path": str(self.folder / f"{name}.ctl"),
            "log_path": str(self.folder / "logs" / f"{name}.log"),
            "lease_s": 600.0,
            "layout_dir": str(layouts),
        }


@contextlib.contextmanager
def bare_launcher(folder: Path, runtimes: str = "vllm") -> Iterator[BareLauncher]:
    """A launcher of the benchmark's own, warm. Raises BareFailed."""
    path, log = folder / "launcher.sock", folder / "launcher.log"
    command = [sys.executable, "-m", "models.runtimes.launcher", "--socket", str(path)]
    command += ["--scratch", str(folder / "scratch"), "--runtimes", runtimes]
    environ = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "MALLOC_ARENA_MAX": "2", "HF_HUB_OFFLINE": "1"}
    with running(command, environ, log) as process:
        give_up_s = time.monotonic() + WARM_TIMEOUT_S
        while not _is_warm(path):
            if process.poll() is not None:
                raise BareFailed(f"the launcher exited with {process.returncode}:\n{tail(log)}")
            if time.monotonic() > give_up_s:
                raise BareFailed(f"the launcher is not warm after {WARM_TIMEOUT_S:g} s:\n{tail(log)}")
            time.sleep(0.1)
        try:
            yield BareLauncher(folder, process.pid)
        finally:
            _end_engines(folder)


def _end_engines(folder: Path) -> None:
    """Those that a failed measurement has left: they would go on until their leases end."""
    for path in folder.glob("*.ctl"):
        with contextlib.suppress(OSError), contextlib.closing(Wire(path)) as wire:
            wire.say({"seq": 3, "op": "stop"})


def _is_warm(path: Path) -> bool:
    try:
        wire = Wire(path)
    except OSError:
        return False
    with contextlib.closing(wire):
        wire.say({"op": "ping"})
        return any(message["ready"] for message in itertools.islice(wire.messages(WARM_TIMEOUT_S), 1))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

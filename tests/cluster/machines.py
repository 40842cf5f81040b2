"""Machines of a cluster: hosts that run Roundhouse, as an operator would start it, and callers of their gateways."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from models.cluster import DEFAULT_PORT
from tests.cluster.hosts import Host, until

PORT = 8000
RAYLET = r"raylet/raylet "
START_TIMEOUT_S = 180


class Machine:
    """``keys``: the lines of the head's ``demo.env``, from whichever machine the requests are sent."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.keys: dict[str, str] = {}

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def url(self) -> str:
        return f"http://{self.host.address}:{PORT}"

    def roundhouse(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return self.host.python("-m", "gateway.cli", *words, timeout_s=timeout_s)

    def done(self, *words: str, timeout_s: float = 60) -> Any:
        """The document that a command prints."""
        outcome = self.roundhouse(*words, "--json", timeout_s=timeout_s)
        said = (
            f"[{self.name}] roundhouse {' '.join(words)}: exit {outcome.returncode}\n{outcome.stdout}{outcome.stderr}"
        )
        assert outcome.returncode == 0, f"{said}\n{self.logs()}"
        return json.loads(outcome.stdout)

    def refused(self, *words: str) -> dict[str, Any]:
        """The error that a command ends with."""
        outcome = self.roundhouse(*words, "--json")
        assert outcome.returncode != 0, outcome.stdout
        error: dict[str, Any] = json.loads(outcome.stdout)["error"]
        return error

    def up(self, config: Path) -> None:
        self.done(*self._up(config), timeout_s=START_TIMEOUT_S)
        self._read_keys()

    def _up(self, config: Path) -> tuple[str, ...]:
        listens = ("--host", self.host.address, "--port", str(PORT))
        return ("up", "--cluster", self.host.address, "--config", str(config), *listens, "--detach")

    def admits(self) -> bool:
        """Whether others can join it by now."""
        if not (self.host.home / "cluster.secret").exists():
            return False
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.host.address, DEFAULT_PORT)) == 0

    def reaches(self, other: Machine) -> bool:
        ask = f"import socket; socket.create_connection(('{other.host.address}', {DEFAULT_PORT}), timeout=1)"
        return self.host.python("-c", ask).returncode == 0

    def join_words(self, head: Machine, *more: str) -> tuple[str, ...]:
        return ("join", head.host.address, "--secret-file", str(head.host.home / "cluster.secret"), *more)

    def join(self, head: Machine, *more: str) -> Any:
        joined = self.done(*self.join_words(head, *more), "--detach", timeout_s=START_TIMEOUT_S)
        self.keys = head.keys
        return joined

    @property
    def gateway(self) -> tuple[str, ...]:
        return ("--gateway", "--host", self.host.address, "--port", str(PORT))

    def _read_keys(self) -> None:
        lines = (self.host.home / "demo.env").read_text().split()
        self.keys = dict(line.split("=", 1) for line in lines)

    def http(self, *, admin: bool = False, timeout_s: float = 60) -> httpx.Client:
        key = self.keys["ROUNDHOUSE_ADMIN_KEY" if admin else "ROUNDHOUSE_API_KEY"]
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=timeout_s)

    def admin(self, path: str) -> Any:
        with self.http(admin=True) as client:
            return client.get(f"/admin/v1/{path}").raise_for_status().json()

    def replicas(self, state: str = "ready") -> dict[str, dict[str, Any]]:
        found = self.admin("replicas")["data"]
        return {replica["replica_id"]: replica for replica in found if replica["state"] == state}

    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin("nodes")["data"]
        return found

    def node_state(self, name: str) -> str:
        return next((str(node["state"]) for node in self.nodes() if node["id"] == name), "absent")

    def chat(self, model: str = "tiny-llama", **more: Any) -> httpx.Response:
        with self.http() as client:
            return client.post("/v1/chat/completions", json=question(model, **more))

    def served(self) -> int:
        """Requests that the engines of this machine have answered, by their own count."""
        count = 0.0
        for path in (self.host.home / "run" / "e").glob("*.http"):
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=10) as client:
                lines = client.get("http://engine/metrics").text.splitlines()
            count += sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total"))
        return round(count)

    def logs(self, lines: int = 15) -> str:
        files = sorted((self.host.home / "logs").glob("*.log"))
        return "\n".join(f"== {self.name} {file.name}\n" + "\n".join(_tail(file, lines)) for file in files)


def _tail(file: Path, lines: int) -> list[str]:
    return file.read_text(errors="replace").splitlines()[-lines:]


def question(model: str = "tiny-llama", **more: Any) -> dict[str, Any]:
    """Each another one: whoever has answered it before would be asked again."""
    content = f"{secrets.token_hex(8)} says hello"
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 4, **more}


@dataclass
class Calls:
    """What callers met."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    longest_s: float = 0.0


@contextmanager
def callers(machines: Sequence[Machine], every_s: float = 0.1) -> Iterator[Calls]:
    """Calls through the gateway of each of these machines, one at a time and without end, for as long as this lasts."""
    calls, ending, lock = Calls(), threading.Event(), threading.Lock()

    def call(machine: Machine) -> None:
        with machine.http(timeout_s=60) as client:
            while not ending.wait(every_s):
                began = time.monotonic()
                try:
                    answer = client.post("/v1/chat/completions", json=question())
                    problem = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
                except httpx.HTTPError as error:
                    problem = f"{type(error).__name__} {error}"
                took_s = time.monotonic() - began
                with lock:
                    calls.answered += not problem
                    calls.longest_s = max(calls.longest_s, took_s)
                    if problem:
                        calls.failed.append(f"through {machine.name} after {took_s:.2f} s: {problem}")

    threads = [threading.Thread(target=call, args=(machine,), daemon=True) for machine in machines]
    for thread in threads:
        thread.start()
    try:
        yield calls
    finally:
        ending.set()
        for thread in threads:
            thread.join(70)


def raylets(machine: Machine) -> list[int]:
    """Processes of Ray's node on this machine."""
    return machine.host.pids(RAYLET)


def all_ready(head: Machine, count: int, timeout_s: float = 120) -> dict[str, dict[str, Any]]:
    """Replicas, once so many are ready."""

    def ready() -> dict[str, dict[str, Any]] | None:
        try:
            found = head.replicas()
        except httpx.HTTPError:
            return None
        return found if len(found) == count else None

    found: dict[str, dict[str, Any]] = until(ready, timeout_s, what=f"{count} replicas are ready")
    return found


def engines_by_node(head: Machine, count: int = 3, timeout_s: float = 120) -> dict[str, list[int]]:
    """Processes of the engines on each node, once so many are ready."""
    found: dict[str, list[int]] = {}
    for replica in all_ready(head, count, timeout_s).values():
        found.setdefault(replica["node"], []).append(replica["pid"])
    return found

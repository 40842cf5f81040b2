"""What a gateway is put into: engines behind it, a key in front of it, cores of its own, a folder for its files."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.coldstart.child import running, tail
from loadtests.gateway.cores import children_on
from loadtests.gateway.family import Usage, end_rest, family, usage
from loadtests.gateway.ports import free_port
from loadtests.gateway.problems import DidNotStart
from loadtests.gateway.traffic import MODELS, PATH, PLAIN, chat

ASK_TIMEOUT_S = 5.0
POLL_S = 0.002
ORPHANS_S = 5.0


@dataclass(frozen=True, slots=True)
class Scene:
    """``names``: of the engine's models; ``models``: how many the gateway is to know besides those."""

    folder: Path
    engine_ports: tuple[int, ...]
    key: str = field(repr=False)
    cores: Collection[int]
    peers: Path | None = None
    models: int = 0
    workers: int = 1
    names: tuple[str, ...] = MODELS

    @property
    def engine_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.engine_ports]


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that can stand between callers and engines.

    ``missing``: why it cannot be measured here, or None. ``command``: what starts it on a port of loopback; it may put
    files into the folder. ``hidden_engine``: it answers by itself, so that nothing is learnt from the engine.
    """

    name: str
    missing: Callable[[Scene], str | None]
    command: Callable[[Scene, int, Path], Sequence[str]]
    environ: Callable[[Path], Mapping[str, str]] = lambda _folder: {}
    start_timeout_s: float = 20.0
    hidden_engine: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """``ready_s``: from starting it to its first answer to a request."""

    port: int
    ready_s: float
    root: int
    log: Path

    def usage(self) -> Usage:
        return usage(family(self.root))


@contextlib.contextmanager
def started(subject: Subject, scene: Scene) -> Iterator[Running]:
    """The subject, once it answers; at the end it is gone with all of its processes. Raises DidNotStart."""
    port = free_port()
    folder = scene.folder / str(port)  # short: HAProxy's sockets have long names below it
    folder.mkdir(mode=0o700, exist_ok=True)  # a free port may be free again
    log = folder / "log"
    command = subject.command(scene, port, folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROUNDHOUSE_", "RAY_"))}
    with contextlib.ExitStack() as stack:
        began_s = time.perf_counter()
        with children_on(scene.cores):
            process = stack.enter_context(running(command, {**kept, **subject.environ(folder)}, log))
        try:
            answered_s = _first_answer_s(process, port, scene.key, began_s + subject.start_timeout_s, log)
            yield Running(port, answered_s - began_s, process.pid, log)
        finally:
            descended = family(process.pid)[1:]
            stack.close()
            end_rest(descended, ORPHANS_S)


def _first_answer_s(process: subprocess.Popen[bytes], port: int, key: str, give_up_s: float, log: Path) -> float:
    """The time of the first answer on ``time.perf_counter``."""
    problem = "nothing was tried"
    while time.perf_counter() < give_up_s:
        try:
            status = ask(port, key)
        except (OSError, http.client.HTTPException) as refused:
            problem = str(refused)
        else:
            if status == 200:
                return time.perf_counter()
            problem = f"status {status}"
        if process.poll() is not None:
            raise DidNotStart(f"it ended with {process.returncode}:\n{tail(log)}")
        time.sleep(POLL_S)
    raise DidNotStart(f"it gave no answer in time ({problem}):\n{tail(log)}")


def ask(port: int, key: str, model: str = PLAIN) -> int:
    """The status of one chat request; without a key where it is empty. Raises OSError, http.client.HTTPException."""
    return told(port, key, model)[0]


def told(port: int, key: str, model: str = PLAIN) -> tuple[int, http.client.HTTPMessage]:
    """As ``ask``: the status, and the headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_TIMEOUT_S)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        connection.request("POST", PATH, chat(model), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


def get(port: int, path: str) -> str:
    """The body of a GET that succeeds. Raises OSError, http.client.HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise http.client.HTTPException(f"GET {path} was answered with {answer.status}")
        return body
    finally:
        connection.close()

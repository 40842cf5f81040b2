"""vLLM's own server as processes of their own, reached over a private unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

from models.runtimes.proc import private_bytes, stat
from models.runtimes.protocol import EngineError
from models.runtimes.sockets import LONGEST_PATH_BYTES, remove
from models.runtimes.vllm.keeper import SIGNALLED

log = logging.getLogger("roundhouse.engine")

START_TIMEOUT_S = 900.0
HEALTH_POLL_S = 0.05
ANSWER_TIMEOUT_S = 5.0
TAIL_BYTES = 64 << 10
READ_BYTES = 1 << 16

# By file below vLLM's own folder, the arguments that run it; the first that is there. Not the ``vllm`` command: it may
# belong to another Python, or not be on the path.
SERVERS = (
    ("entrypoints/openai/api_server.py", ("-m", "vllm.entrypoints.openai.api_server")),
    ("entrypoints/cli/main.py", ("-m", "vllm.entrypoints.cli.main", "serve")),
)

_PREFIX = re.compile(r"^(?:\x1b\[[0-9;]*m|\(\w+ pid=\d+\)|(?:ERROR|INFO|WARNING) [\d-]+ [\d:]+ \[[^\]]*\]|\s)+")
_RAISED = re.compile(r"^(?:[\w.]+: error|(?:\w+\.)*\w*(?:Error|Exception|Interrupt|KvTooSmall)): (?P<said>.+)$")
_SECONDARY = ("Engine core initialization failed", "EngineCore encountered")


def server_arguments() -> tuple[str, ...]:
    """What runs vLLM's server in this Python, without importing it. Raises ImportError when there is none."""
    spec = importlib.util.find_spec("vllm")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for file, arguments in SERVERS:
            if (Path(folder) / file).is_file():
                return arguments
    raise ImportError("this vLLM has no server that could be started" if folders else "vllm is not installed")


class VllmServer:
    """One server, from its start to its end. Everything it writes goes to this process's standard error."""

    def __init__(self, socket_path: str) -> None:
        """Raises EngineError for a path that is too long."""
        if len(os.fsencode(socket_path)) > LONGEST_PATH_BYTES:
            raise EngineError(f"the engine's socket path {socket_path} is longer than {LONGEST_PATH_BYTES} bytes")
        self.socket_path = socket_path
        self._tail = bytearray()

    async def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """``arguments`` of the server. Returns once it is healthy. Raises ServerFailed, EngineError."""
        remove(self.socket_path)
        server = (sys.executable, *server_arguments(), *arguments, "--uds", self.socket_path)
        self._keeper = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "models.runtimes.vllm.keeper", self.socket_path, *server),
            stdin=asyncio.subprocess.PIPE,  # held open for as long as this process lives
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
        )
        self._reading = asyncio.create_task(self._read())
        began_s = time.monotonic()
        while not await self._healthy():
            if self._keeper.returncode is not None:
                raise ServerFailed(await self.last_words(), await self.ended())
            if time.monotonic() - began_s > START_TIMEOUT_S:
                self.end()
                raise EngineError(f"vLLM's server was not ready after {START_TIMEOUT_S:g} s", "hang")
            await asyncio.sleep(HEALTH_POLL_S)

    async def ended(self) -> str:
        """Wait for its end; how it ended, in words."""
        code = await self._keeper.wait()
        if code > SIGNALLED:
            number = code - SIGNALLED
            return f"was killed by signal {number} ({signal.strsignal(number) or 'unknown'})"
        return f"ended with code {code}"

    async def last_words(self) -> str:
        """All that it wrote last. Call when it has ended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._reading), 1.0)
        return bytes(self._tail).decode(errors="replace")

    async def tell(self, path: str, timeout_s: float) -> None:
        """POST without a body. Raises EngineError when it is not done."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.session() as session,
                session.post(f"http://server{path}") as response,
            ):
                if response.status != 200:
                    said = (await response.text())[:200]
                    raise EngineError(f"vLLM's server answered {response.status} to {path}: {said}")
        except TimeoutError as problem:
            raise EngineError(f"vLLM's server did not answer to {path} in {timeout_s:g} s", "hang") from problem
        except aiohttp.ClientError as problem:
            raise EngineError(f"vLLM's server cannot be reached: {problem}") from problem

    def session(self) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(path=self.socket_path, limit=0)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0))

    def private_bytes(self) -> int:
        """Of all its processes: those of the session that the keeper made for it."""
        keeper = self._keeper.pid
        stats = {int(path.name): stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
        sessions = {found.session for found in stats.values() if found is not None and found.parent == keeper}
        ours = [pid for pid, found in stats.items() if found is not None and found.session in sessions]
        return sum(private_bytes(pid) for pid in (keeper, *ours))

    def end(self) -> None:
        """Hang up on the keeper, which kills all there is; returns at once."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()

    async def close(self) -> None:
        self.end()
        await self._keeper.wait()

    async def _healthy(self) -> bool:
        if not Path(self.socket_path).exists():
            return False
        try:
            async with (
                asyncio.timeout(ANSWER_TIMEOUT_S),
                self.session() as session,
                session.get("http://server/health") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _read(self) -> None:
        """Pass on what it writes through this process's own standard error, which is the engine's bounded log."""
        assert self._keeper.stdout is not None
        while chunk := await self._keeper.stdout.read(READ_BYTES):
            os.write(2, chunk)
            self._tail += chunk
            del self._tail[:-TAIL_BYTES]


class ServerFailed(Exception):
    """The server ended before it was healthy. ``how``: "ended with code 1"; ``reason``: what was raised in it first."""

    def __init__(self, written: str, how: str) -> None:
        super().__init__(f"vLLM's server {how}")
        self.how = how
        self.reason = first_reason(written)


def first_reason(written: str) -> str | None:
    """The message of the first exception in a log that is not merely about another one; None when there is none."""
    lines = [_PREFIX.sub("", line) for line in written.splitlines()]
    for place, line in enumerate(lines):
        found = _RAISED.match(line)
        if found and not any(found["said"].startswith(secondary) for secondary in _SECONDARY):
            return " ".join((found["said"], *_continued(lines[place + 1 :])))
    return None


def _continued(lines: Sequence[str]) -> list[str]:
    """Validation errors put what is wrong on the lines below the exception's name."""
    taken = []
    for line in lines[:3]:
        if not line or line.startswith(("Traceback", "During handling", "The above exception", "For further")):
            break
        taken.append(line)
    return taken

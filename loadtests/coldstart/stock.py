"""The baseline: vLLM's own server as its documentation starts it, from nothing to its first token."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from loadtests.coldstart.child import free_port, running, tail
from loadtests.coldstart.passes import first_token_s
from loadtests.target import Target
from loadtests.wire import CallFailed, NotReachable

START_TIMEOUT_S = 300.0
POLL_S = 0.02
MODULE = "vllm.entrypoints.openai.api_server"


class StockFailed(CallFailed):
    """The stock server did not start; the message has the end of its log."""


def command(folder: str, model: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", MODULE, "--model", folder, "--served-model-name", model),
        *("--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", "1024"),
    ]


Command = Callable[[str, str, int], list[str]]  # folder, model, port


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that Roundhouse gives its own engines, so that only the way of starting differs."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("ROUNDHOUSE_", "VLLM_"))}
    return kept | {
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_ARENA_MAX": "2",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }


@contextlib.contextmanager
def stock_server(folder: str, model: str, log: Path, command: Command = command) -> Iterator[tuple[Target, float]]:
    """A stock server, and the seconds from spawning it to its first token. Raises StockFailed, CallFailed."""
    port = free_port()
    target = Target(f"http://127.0.0.1:{port}")
    began_s = time.perf_counter()
    with running(command(folder, model, port), environment(os.environ), log) as process:
        yield target, _first_answer(process, target, model, log) - began_s


def stock_first_token_s(folder: str, model: str, log: Path, command: Command = command) -> float:
    """Seconds from spawning the server to its first token. Raises StockFailed, CallFailed."""
    with stock_server(folder, model, log, command) as (_, seconds):
        return seconds


def _first_answer(process: subprocess.Popen[bytes], target: Target, model: str, log: Path) -> float:
    """The time of the first token on ``time.perf_counter``: asked for as soon as the port is open."""
    deadline_s = time.perf_counter() + START_TIMEOUT_S
    while time.perf_counter() < deadline_s:
        asked_s = time.perf_counter()
        try:
            return asked_s + first_token_s(target, model)
        except NotReachable:
            if process.poll() is not None:
                raise StockFailed(f"the stock server exited with {process.returncode}:\n{tail(log)}") from None
            time.sleep(POLL_S)
    raise StockFailed(f"the stock server gave no answer within {START_TIMEOUT_S:g} s:\n{tail(log)}")

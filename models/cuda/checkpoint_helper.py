"""``python -m models.cuda.checkpoint_helper``: takes an engine's whole CUDA state off the GPU and back, from beside it.

A process whose CUDA calls are locked cannot unlock itself, so another one has to ask the driver. Orders come as JSON
lines on standard input, answers go out on standard output; it ends when its input does, that is with its engine. It
holds no CUDA context, hence no memory of any GPU.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from typing import IO, Any, Literal, Protocol

import msgspec

Operation = Literal["state", "lock", "checkpoint", "restore", "unlock"]
# unsupported: by this driver, GPU or installation; busy: its GPU work did not end in time; memory: no room to restore.
Kind = Literal["unsupported", "busy", "memory", "other"]
State = Literal["running", "locked", "checkpointed", "failed"]


class HelperRequest(msgspec.Struct, frozen=True, kw_only=True):
    op: Operation
    pid: int
    timeout_ms: int = 0  # of "lock"; 0 waits for ever


class HelperReply(msgspec.Struct, frozen=True, kw_only=True):
    ok: bool
    state: str = ""  # after the operation
    took_s: float = 0.0
    kind: Kind = "other"  # when not ok
    error: str = ""


class Process(Protocol):
    """``cuda.core.checkpoint.Process``, or a test's."""

    @property
    def state(self) -> State: ...

    def lock(self, timeout_ms: int = 0) -> None: ...

    def checkpoint(self) -> None: ...

    def restore(self) -> None: ...

    def unlock(self) -> None: ...


class Unsupported(Exception):
    """This machine cannot checkpoint CUDA processes; the message names the cure."""


def real_process(pid: int) -> Process:
    """Raises Unsupported."""
    try:
        checkpoint = importlib.import_module("cuda.core").checkpoint
    except (ImportError, AttributeError) as problem:
        raise Unsupported("the Python package cuda-core, 1.0 or newer, is not installed") from problem
    _start_driver()
    process: Process = checkpoint.Process(pid)
    return process


def _start_driver() -> None:
    """Without it, restoring would need the GPU's persistence mode (driver API, cuCheckpointProcessRestore)."""
    driver = importlib.import_module("cuda.bindings.driver")
    try:
        code = driver.cuInit(0)[0]
    except RuntimeError as problem:  # the loader of the driver's library raises its own kinds of it
        raise Unsupported("this machine has no NVIDIA driver") from problem
    if int(code):
        raise Unsupported(f"the NVIDIA driver cannot be started: {code.name}")


def perform(request: HelperRequest, process: Process) -> HelperReply:
    """One operation; never raises."""
    began_s = time.monotonic()
    try:
        match request.op:
            case "lock":
                process.lock(timeout_ms=request.timeout_ms)
            case "checkpoint":
                process.checkpoint()
            case "restore":
                process.restore()
            case "unlock":
                process.unlock()
            case "state":
                pass
        return HelperReply(ok=True, state=process.state, took_s=time.monotonic() - began_s)
    except Exception as problem:  # noqa: BLE001 - the bindings raise kinds of their own; the engine is told all of them
        return HelperReply(ok=False, kind=kind_of(str(problem)), error=str(problem), took_s=time.monotonic() - began_s)


# Names of CUresult, as the bindings put them into their messages, and cuda-core's own sentence.
_KINDS: tuple[tuple[str, Kind], ...] = (
    ("CUDA_ERROR_NOT_SUPPORTED", "unsupported"),
    ("not supported by the installed", "unsupported"),
    ("requires cuda.bindings", "unsupported"),
    ("CUDA_ERROR_NOT_READY", "busy"),
    ("CUDA_ERROR_OUT_OF_MEMORY", "memory"),
)


def kind_of(message: str) -> Kind:
    return next((kind for words, kind in _KINDS if words in message), "other")


def serve(lines: IO[bytes], answers: IO[bytes], find: Any = real_process) -> None:
    """Until ``lines`` ends."""
    decoder = msgspec.json.Decoder(HelperRequest)
    for line in lines:
        try:
            request = decoder.decode(line)
            reply = perform(request, find(request.pid))
        except msgspec.DecodeError as problem:
            reply = HelperReply(ok=False, error=f"not a request: {problem}")
        except Unsupported as problem:
            reply = HelperReply(ok=False, kind="unsupported", error=str(problem))
        answers.write(msgspec.json.encode(reply) + b"\n")
        answers.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.cuda.checkpoint_helper")
    parser.add_argument(
        "--process", default="", metavar="MODULE:FACTORY", help="stands in for cuda-core's Process (tests)"
    )
    module, _, factory = parser.parse_args().process.partition(":")
    find = getattr(importlib.import_module(module), factory) if module else real_process
    serve(sys.stdin.buffer, sys.stdout.buffer, find)


if __name__ == "__main__":
    main()

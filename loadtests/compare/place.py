"""Where something is started: its folder, the model's files, what an engine is told."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.chat import StreamBroken
from loadtests.coldstart.child import running, tail
from loadtests.coldstart.passes import first_token_s
from loadtests.compare.engine_args import EngineArgs
from loadtests.gateway.family import end_rest, family
from loadtests.gateway.problems import DidNotStart
from loadtests.target import Target
from loadtests.wire import CallFailed

POLL_S = 0.1
ORPHANS_S = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """``folder``: short, and this pass's own. ``weights``: the model's folder; ``model``: by which callers know it."""

    folder: Path
    weights: Path
    model: str
    engine_args: EngineArgs
    peers: Path | None = None
    start_timeout_s: float = 300.0


Ask = Callable[[Target, str], float]


@contextlib.contextmanager
def answering(
    name: str, words: Sequence[str], environ: Mapping[str, str], target: Target, place: Place, ask: Ask = first_token_s
) -> Iterator[Target]:
    """The program, once it answers for the model; at the end it is gone with all that descended from it.

    Raises DidNotStart with the end of its log.
    """
    log = place.folder / f"{name}.log"
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running(words, environ, log))
        try:
            _await_answer(name, process, target, place, log, ask)
            yield target
        finally:
            descended = family(process.pid)[1:]
            stack.close()
            end_rest(descended, ORPHANS_S)


def _await_answer(
    name: str, process: subprocess.Popen[bytes], target: Target, place: Place, log: Path, ask: Ask
) -> None:
    problem = "nothing was tried"
    give_up_s = time.monotonic() + place.start_timeout_s
    while time.monotonic() < give_up_s:
        try:
            ask(target, place.model)
        except (CallFailed, StreamBroken) as still:
            problem = str(still)
        else:
            return
        if process.poll() is not None:
            raise DidNotStart(f"{name} ended with {process.returncode}:\n{tail(log)}")
        time.sleep(POLL_S)
    raise DidNotStart(f"{name} gave no answer within {place.start_timeout_s:g} s ({problem}):\n{tail(log)}")


def own_environment(environ: Mapping[str, str], **more: str) -> dict[str, str]:
    """Without this benchmark's own settings and keys."""
    return {name: value for name, value in environ.items() if not name.startswith(("ROUNDHOUSE_", "RAY_"))} | more


def on_path(folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """A PATH that begins with the folder."""
    return os.pathsep.join([str(folder), (environ or os.environ).get("PATH", os.defpath)])

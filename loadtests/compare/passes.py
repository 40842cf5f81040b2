"""The same suite against everyone in turns; another one goes first in each pass, as the machine changes meanwhile."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loadtests.chat import StreamBroken
from loadtests.coldstart.passes import first_token_s
from loadtests.compare.place import Place
from loadtests.compare.startable import STARTABLE
from loadtests.driver import NoRun
from loadtests.gateway.problems import CannotMeasure
from loadtests.load.settings import Settings
from loadtests.stopping import whole
from loadtests.target import Target
from loadtests.wire import CallFailed

WARM_REQUESTS = 3  # of each model before a pass: what is measured here is serving, not the first request
Contender = Callable[[], AbstractContextManager[Target]]
Run = Callable[[Settings, Target, Path], dict[str, Any]]
Say = Callable[[str], None]


@dataclass(slots=True)
class Compared:
    """``runs``: documents by target, a run per pass. ``missing``: why a target has none, or not all."""

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def contenders(
    targets: Mapping[str, Target], started: Sequence[str], place: Callable[[Path], Place]
) -> dict[str, Contender]:
    """``place``: of a folder; what is started gets a fresh one in each pass."""
    found: dict[str, Contender] = {name: _running(target) for name, target in targets.items()}
    return found | {name: _starting(name, place) for name in started}


def _running(target: Target) -> Contender:
    return lambda: contextlib.nullcontext(target)


def _starting(name: str, place: Callable[[Path], Place]) -> Contender:
    @contextlib.contextmanager
    def started() -> Iterator[Target]:
        with (
            tempfile.TemporaryDirectory(prefix="rh-c-", ignore_cleanup_errors=True) as folder,
            STARTABLE[name].started(place(Path(folder))) as target,
        ):
            yield target

    return started


def compare(
    present: Mapping[str, Contender], settings: Settings, passes: int, out: Path, run: Run, say: Say
) -> Compared:
    """Whoever fails is left out from then on. Ctrl-C ends it with the runs that are whole."""
    compared = Compared()
    order = list(present)
    for number in range(passes):
        turn = number % len(order)
        for place, name in enumerate(order[turn:] + order[:turn]):
            if name in compared.missing:
                continue
            say(f"pass {number + 1} of {passes}: {name}")
            # Targets may share an engine: no prefix cache is to answer for one what another one asked.
            own = msgspec.structs.replace(settings, salt=f"{settings.salt}{number:02x}{place:02x}")
            try:
                with present[name]() as target:
                    _warm(target, settings.models)
                    found = _valid(run, own, target, out / f"{name}-{number + 1}", say)
                    compared.runs.setdefault(name, []).append(found)
            except KeyboardInterrupt:
                say(f"ended in pass {number + 1} of {passes}")
                for one in order:
                    if len(compared.runs.get(one, ())) < passes:
                        compared.missing.setdefault(one, f"ended by Ctrl-C in pass {number + 1} of {passes}")
                return compared
            except (CallFailed, StreamBroken, CannotMeasure, NoRun, OSError, subprocess.SubprocessError) as problem:
                compared.missing[name] = str(problem)
                say(f"{name} is left out: {problem}")
    return compared


def _valid(run: Run, settings: Settings, target: Target, where: Path, say: Say) -> dict[str, Any]:
    """Once more where a run is not valid: that alone decides which run counts, not how fast it was."""
    found = whole(functools.partial(run, settings, target, where))
    if found["generator"]["valid"]:
        return found
    say(f"  not valid, once more: {'; '.join(found['generator']['reasons'])}")
    salted = msgspec.structs.replace(settings, salt=f"{settings.salt[:-1]}x")
    again = whole(functools.partial(run, salted, target, where.with_name(f"{where.name}-again")))
    return {**again, "again": True}


def _warm(target: Target, models: Sequence[str]) -> None:
    for model in models:
        for _ in range(WARM_REQUESTS):
            first_token_s(target, model)

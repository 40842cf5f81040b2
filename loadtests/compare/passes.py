"""The same suite against everyone in turns; another one goes first in each pass, as the machine changes meanwhile."""

from __future__ import annotations

import contextlib
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
    """Whoever fails is left out from then on."""
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
                    compared.runs.setdefault(name, []).append(run(own, target, out / f"{name}-{number + 1}"))
            except (CallFailed, StreamBroken, CannotMeasure, NoRun, OSError) as problem:
                compared.missing[name] = str(problem)
                say(f"{name} is left out: {problem}")
    return compared


def _warm(target: Target, models: Sequence[str]) -> None:
    for model in models:
        for _ in range(WARM_REQUESTS):
            first_token_s(target, model)

"""The same load, direct to the engine and through the service, in turns.

Both sides have one plan: the same requests at the same times. The order of the two changes from pass to pass (direct
first, then second, ...), so that neither side has all the early or all the late passes, and a machine that warms up or
slows down bends both alike.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadtests.chat import StreamBroken
from loadtests.coldstart.admin import Admin
from loadtests.coldstart.passes import first_token_s
from loadtests.driver import NoRun, folder, need_locust, run_once, settle
from loadtests.load.settings import Settings, SettingsError
from loadtests.needs import make_folder
from loadtests.outcome.document import RUN_FILE
from loadtests.report.engine import direct_target, fresh
from loadtests.stopping import whole
from loadtests.suites import plan_of
from loadtests.target import Target
from loadtests.wire import CallFailed

FORMAT, VERSION = "roundhouse-loadtest-pairs", 1
PAIRS_FILE = "pairs.json"
DIRECT, THROUGH = "direct", "through"
PASSES = 5  # of three, Student's t makes intervals half as wide again
AGAIN = 3
WARM_REQUESTS = 3  # to each side before a pass: what is measured here is serving, not an engine's first request


class PairsError(ValueError):
    """The file is no list of passes."""


class Pairs(msgspec.Struct, frozen=True):
    """Runs of each side, pass by pass; relative to the file's own folder. ``left_out``: passes that were not valid
    on one side, and that were run again. ``argv``: repeats them."""

    direct: list[str]
    through: list[str]
    left_out: list[int] = []
    argv: list[str] = []
    format: str = FORMAT
    version: int = VERSION

    def files(self, base: Path) -> tuple[list[Path], list[Path]]:
        return [base / one for one in self.direct], [base / one for one in self.through]


def sides(number: int) -> tuple[str, str]:
    """The first pass has the engine first, the second the service, and so on."""
    return (DIRECT, THROUGH) if number % 2 else (THROUGH, DIRECT)


def run_pairs(options: argparse.Namespace, argv: list[str]) -> Path:
    """The folder with all runs and ``pairs.json``. Raises NoRun, TargetError, SettingsError, CallFailed, OSError.

    A pass that is not valid is run again, up to AGAIN times in all: why it is not is the generator's affair, and which
    passes count is decided by that alone, not by how fast they were. Ctrl-C ends it with the passes that are whole.
    """
    need_locust()
    settings, target = settle(options)
    model = the_model(settings)
    wanted = getattr(options, "pairs", PASSES)
    if wanted < 1:
        raise SettingsError(f"--pairs must be at least 1, not {wanted}")
    out = folder(options, settings)
    make_folder(out)
    (out / PAIRS_FILE).unlink(missing_ok=True)
    done, left_out = _passes(_Asked(options, settings, target, model, out), wanted)
    if not done:
        raise NoRun("ended before the first pass was whole")
    direct, through = ([f"{number}-{side}/{RUN_FILE}" for number in done] for side in (DIRECT, THROUGH))
    pairs = Pairs(direct, through, left_out, argv)
    (out / PAIRS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(pairs), indent=1) + b"\n")
    return out


@dataclass(frozen=True, slots=True)
class _Asked:
    options: argparse.Namespace
    settings: Settings
    target: Target
    model: str
    out: Path


def _passes(asked: _Asked, wanted: int) -> tuple[list[int], list[int]]:
    """Numbers of the passes that count, and of those that were run again."""
    done: list[int] = []
    left_out: list[int] = []
    while len(done) < wanted:
        number = len(done) + len(left_out) + 1
        # The order is that of the passes that count: what is run again has the order of what it stands for.
        said = f"pass {len(done) + 1} of {wanted}"
        try:
            runs = {side: _one(asked, number, side, said) for side in sides(len(done) + 1)}
        except KeyboardInterrupt:
            say(f"ended: {len(done)} of {wanted} passes are whole")
            break
        reasons = [f"{side}: {reason}" for side, run in runs.items() for reason in run["generator"]["reasons"]]
        if all(run["generator"]["valid"] for run in runs.values()) or len(left_out) >= AGAIN:
            done.append(number)
        else:
            say(f"  not valid, once more: {'; '.join(reasons)}")
            left_out.append(number)
    return done, left_out


def _one(asked: _Asked, number: int, side: str, said: str) -> dict[str, Any]:
    """One side of a pass, with a salt of its own: no prefix cache answers for the turn before."""
    settings = asked.settings
    place = _target(asked, side)
    say(f"{said}, {side}: {place.url}")
    _warm(place, settings.models)
    salted = msgspec.structs.replace(settings, salt=f"{settings.salt}{number:x}{side[0]}")
    run = whole(lambda: run_once(asked.options, salted, place, asked.out / f"{number}-{side}"))
    if not run["summary"]["answered"]:
        raise NoRun(f"nothing was answered in pass {number}, {side}: {_first_error(run)}")
    return run


def _warm(target: Target, models: Sequence[str]) -> None:
    """So that neither side has the first requests of an engine. What fails is for the run's own figures."""
    with contextlib.suppress(CallFailed, StreamBroken):
        for model in models:
            for _ in range(WARM_REQUESTS):
                first_token_s(target, model)


def the_model(settings: Settings) -> str:
    """The one model of the load. Raises SettingsError where an engine alone cannot be asked the same."""
    plan = plan_of(settings)
    if plan.script or plan.events:
        raise SettingsError(f"--direct: {settings.suite} gives orders to the service, which an engine does not take")
    models = settings.models + settings.embedders
    if len(models) != 1:
        raise SettingsError(f"--direct: an engine serves one model; name it: --models {'|'.join(models)}")
    return models[0]


def _target(asked: _Asked, side: str) -> Target:
    options, service = asked.options, asked.target
    if hasattr(options, "reset"):
        fresh(Admin(service), asked.model)
    # Looked up each time: meanwhile the replica may have become another.
    remote = getattr(options, "allow_remote", False)
    direct = direct_target(options.direct, service, asked.model, allow_remote=remote)
    return direct if side == DIRECT else service


def _first_error(run: dict[str, Any]) -> str:
    errors = run["summary"]["errors"]
    return f"{errors[0]['code']}: {errors[0]['first']}" if errors else "there were no requests"


def read_pairs(file: Path) -> tuple[Pairs, Path]:
    """``file``: ``pairs.json`` or its folder; also what its paths are relative to. Raises PairsError."""
    place = file / PAIRS_FILE if file.is_dir() else file
    try:
        pairs = msgspec.json.decode(place.read_bytes(), type=Pairs)
    except (OSError, msgspec.MsgspecError) as problem:
        raise PairsError(f"{place} cannot be read: {problem}") from None
    if pairs.format != FORMAT:
        raise PairsError(f"{place} is no list of passes ({FORMAT}), but {pairs.format!r}; name a run or its folder")
    if pairs.version != VERSION:
        raise PairsError(f"{place} is of version {pairs.version}, which this version cannot read ({VERSION}): upgrade")
    if not pairs.through or len(pairs.direct) != len(pairs.through):
        raise PairsError(f"{place} has {len(pairs.direct)} direct runs and {len(pairs.through)} through the service")
    return pairs, place.parent


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

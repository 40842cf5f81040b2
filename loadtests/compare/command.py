"""``roundhouse loadtest compare SUITE``: settle what is compared, run it, and leave ``comparison.json`` and ``.md``."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loadtests.compare.engine_args import context_of
from loadtests.compare.options import Asked
from loadtests.compare.outcome import outcome
from loadtests.compare.passes import compare, contenders
from loadtests.compare.place import Place
from loadtests.compare.problems import CannotCompare
from loadtests.compare.startable import STARTABLE
from loadtests.compare.table import markdown
from loadtests.compare.targets import common_models, running_service, targets_of
from loadtests.compare.weights import weights_of
from loadtests.driver import folder, need_locust, run_once
from loadtests.load.settings import Settings
from loadtests.needs import make_folder
from loadtests.options import given
from loadtests.outcome.slo import NO_SLO, Slo, SloError, read_slo
from loadtests.suites import SUITES, plan_of
from loadtests.target import Target, home_of

JSON_FILE, MARKDOWN_FILE = "comparison.json", "comparison.md"


def compared(asked: Asked, say: Callable[[str], None]) -> tuple[dict[str, Any], Path]:
    """The comparison's document, and its folder. Raises SettingsError, SloError, CannotCompare, NoRun, TargetError,
    CallFailed, OSError."""
    need_locust()
    slo = _goals(asked)
    settings = SUITES[asked.suite.suite].settings(**given(asked.suite))
    targets = targets_of(asked.targets, os.environ, settings.allow_remote)
    if causes := [f"{name}: {why}" for name in asked.start if (why := STARTABLE[name].missing(asked.peers))]:
        raise CannotCompare(causes)
    settings, place = settled(asked, settings, targets, say)
    plan_of(settings)  # a trace that is none is told before anything is started
    out = folder(asked.suite, msgspec.structs.replace(settings, suite=f"compare-{settings.suite}"))
    make_folder(out)

    def run(own: Settings, target: Target, where: Path) -> dict[str, Any]:
        return run_once(asked.suite, own, target, where)

    found = compare(contenders(targets, asked.start, place), settings, asked.passes, out, run, say)
    made = outcome(found.runs, found.missing, asked.passes, slo)
    (out / JSON_FILE).write_text(json.dumps(made, indent=1) + "\n")
    (out / MARKDOWN_FILE).write_text(markdown(made))
    return made, out


def _goals(asked: Asked) -> Slo:
    """Raises SloError."""
    slo = read_slo(asked.suite.slo) if hasattr(asked.suite, "slo") else NO_SLO
    if slo.added:
        raise SloError(
            f"added_{next(iter(slo.added))} is the cost over the engine itself: it takes --direct, not compare"
        )
    return slo


def settled(
    asked: Asked, settings: Settings, targets: Mapping[str, Target], say: Callable[[str], None]
) -> tuple[Settings, Callable[[Path], Place]]:
    """The one load for everyone, and the place of whatever is started in a folder."""
    weights, model = Path(), ""
    if asked.start:
        service = running_service(targets)
        made = home_of(os.environ) / "loadtests" / "models"
        model, weights = weights_of(settings.models, asked.weights, service, made)
        say(f"what is started serves {model} from {weights}{'' if service or asked.weights else ' (no service runs)'}")
        # All that is started is vLLM: answers of one length are the same work for everyone.
        settings = msgspec.structs.replace(settings, models=(model,), whole_length=True)
    if targets:
        settings = common_models(targets, settings)
    length = context_of(asked.engine_args)
    if asked.start and length is not None:
        known = settings.contexts.get(model, length)
        settings = msgspec.structs.replace(settings, contexts=settings.contexts | {model: min(length, known)})
    trace = str(Path(settings.trace).absolute()) if settings.trace else ""
    settings = msgspec.structs.replace(settings, salt=settings.salt or secrets.token_hex(3), trace=trace)

    def place(where: Path) -> Place:
        return Place(where, weights, model, asked.engine_args, asked.peers.absolute() if asked.peers else None)

    return settings, place

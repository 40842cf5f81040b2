"""When it happens: nobody calls, many call, an engine is being started, one is being evicted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from loadtests.chaos.calls import How
from loadtests.chaos.census import Process
from loadtests.chaos.scene import BIGS, COLD, STEADY, STEADY_REPLICAS, model_of
from loadtests.chaos.stage import Stage
from loadtests.wire import CallFailed

BEGIN_TIMEOUT_S = 30.0
LOOK_S = 0.002
CROWD, CROWD_TOKENS = 6, 48
FEW, WAITING = 2, 4
TOKENS = 8
WARM_CALLS = 24  # before it happens under load

Found = TypeVar("Found")


class NotBegun(CallFailed):
    """The service did not come into the state in which something was to happen to it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """``prepare`` brings the service into the state before; ``begin`` returns the instant it should happen."""

    name: str
    about: str
    prepare: Callable[[Stage], None]
    begin: Callable[[Stage], None]


def _tidy(stage: Stage) -> None:
    """Only STEADY runs. Raises CallFailed."""
    stage.wanted = COLD
    for model in (COLD, *BIGS):
        if stage.admin.replicas(model):
            stage.admin.stop(model)
    _until(lambda: len(stage.engines_of(STEADY)) == STEADY_REPLICAS, f"{STEADY} has all of its replicas")


def _fill(stage: Stage) -> None:
    """As many of BIGS run as there is room for, and the last of them does not. Raises CallFailed."""
    _tidy(stage)
    for model in BIGS[:-1]:
        stage.admin.wake(model)
    stage.wanted = BIGS[-1]


def _quiet(stage: Stage) -> None:
    stage.engine = _steady_engine(stage)


def _crowd(stage: Stage) -> None:
    stage.engine = _steady_engine(stage)
    stage.steady.crowd(STEADY, CROWD, CROWD_TOKENS)
    _until(lambda: sum(call.how is How.OK for call in list(stage.steady.calls)) >= WARM_CALLS, "the crowd is answered")


def _starting(stage: Stage) -> None:
    _few(stage)
    stage.waiting.once(COLD, WAITING, TOKENS)
    stage.engine = _until(lambda: _engine_of_model(stage, COLD), f"an engine of {COLD} is made", LOOK_S)


def _evicting(stage: Stage) -> None:
    _few(stage)
    running = {replica["replica_id"] for model in BIGS for replica in stage.engines_of(model)}
    stage.waiting.once(stage.wanted, WAITING, TOKENS)

    def leaving() -> str:
        found = (r for r in stage.admin.replicas() if r["replica_id"] in running and r["state"] != "ready")
        return next((str(replica["replica_id"]) for replica in found), "")

    replica = _until(leaving, "a model makes room", LOOK_S)
    stage.evicted = model_of(replica)
    stage.engine = next((engine for engine in stage.census.engines() if engine.replica == replica), None)


def _few(stage: Stage) -> None:
    """Some are served meanwhile: what serves must go on serving."""
    stage.steady.crowd(STEADY, FEW, CROWD_TOKENS, pause_s=0.02)


def _steady_engine(stage: Stage) -> Process | None:
    ready = {int(replica["pid"]) for replica in stage.engines_of(STEADY)}
    return next((engine for engine in stage.census.engines() if engine.pid in ready), None)


def _engine_of_model(stage: Stage, model: str) -> Process | None:
    return next((engine for engine in stage.census.engines() if model_of(engine.replica) == model), None)


def _until(look: Callable[[], Found], what: str, every_s: float = 0.05) -> Found:
    """What ``look`` found at last. Raises NotBegun."""
    give_up_s = time.monotonic() + BEGIN_TIMEOUT_S
    while not (found := look()):
        if time.monotonic() > give_up_s:
            raise NotBegun(f"it was waited {BEGIN_TIMEOUT_S:g} s in vain until {what}")
        time.sleep(every_s)
    return found


MOMENTS = {
    moment.name: moment
    for moment in (
        Moment("idle", "nobody calls", _tidy, _quiet),
        Moment("load", f"{CROWD} callers without a pause", _tidy, _crowd),
        Moment("start", f"{WAITING} callers wait for an engine that is being made", _tidy, _starting),
        Moment("evict", f"{WAITING} callers wait for a model that another one makes room for", _fill, _evicting),
    )
}

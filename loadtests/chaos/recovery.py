"""How long after the fault everything is as it was: watched condition by condition, each timed for itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from loadtests.chaos.census import ENGINE, Process, count
from loadtests.chaos.scene import STEADY, STEADY_REPLICAS
from loadtests.chaos.stage import Stage
from loadtests.wire import CallFailed

EVERY_S = 0.05
STABLE_S = 1.0  # what holds for so long is taken to have come to stay
FRESH_S = 2.5  # the controller writes once a second
# How many more of these than before are no sign of anything: spares and successors come and go.
LOOSE = {"zygote": 3, "ray's own": 4, "other": 2, "ray": 0}
SPARE = "zygote"
Condition = Callable[[], str]  # what is still missing, "" when nothing is


@dataclass(frozen=True, slots=True)
class Struck:
    """Times on ``time.monotonic``. ``over_s``: when nothing more was done to the service: for a process that went on
    again, when it did; else the strike itself. ``before``: how many processes there were of each kind at first."""

    at_s: float
    over_s: float
    over_unix_s: float
    victims: tuple[Process, ...]
    before: Mapping[str, int]


@dataclass(slots=True)
class Recovered:
    """Seconds from the end of the fault until each held for good; None: it did not. ``missing``: what it still was."""

    after_s: dict[str, float | None] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return all(seconds is not None for seconds in self.after_s.values())


def conditions(stage: Stage, struck: Struck) -> dict[str, Condition]:
    """By name: a new call is answered, the controller writes, all replicas are back, something new can be started,
    and the processes are those that should be there."""
    return {
        "calls": lambda: "" if stage.fresh.answered(struck.at_s) else f"no call of {STEADY} was answered after it",
        "controller": lambda: _controller(stage, struck),
        "replicas": lambda: _replicas(stage, struck),
        "scaling": lambda: "" if stage.asking.answered() else f"nobody has got an answer of {stage.wanted}",
        "processes": lambda: _processes(stage, struck),
    }


def await_recovery(stage: Stage, struck: Struck, within_s: float) -> Recovered:
    """Returns once all conditions have held for STABLE_S together, or ``within_s`` after the fault."""
    checks = conditions(stage, struck)
    since: dict[str, float | None] = dict.fromkeys(checks)
    missing: dict[str, str] = {}
    while True:
        for name, check in checks.items():
            missing[name] = _safely(check)
            if missing[name]:
                since[name] = None
            elif since[name] is None:
                since[name] = time.monotonic()
        now_s = time.monotonic()
        held = [moment for moment in since.values() if moment is not None]
        if (len(held) == len(since) and now_s - max(held) >= STABLE_S) or now_s - struck.over_s > within_s:
            break
        time.sleep(EVERY_S)
    after = {name: None if at is None else max(0.0, at - struck.over_s) for name, at in since.items()}
    return Recovered(after, {name: text for name, text in missing.items() if text})


def _safely(check: Condition) -> str:
    try:
        return check()
    except CallFailed as problem:
        return str(problem)


def _controller(stage: Stage, struck: Struck) -> str:
    controller = stage.status()["controller"]
    if controller is None:
        return "no controller has written anything"
    if int(controller["pid"]) in {victim.pid for victim in struck.victims if not victim.alive()}:
        return "the old controller's state is all there is"
    fresh = controller["updated_unix_s"] > struck.over_unix_s and controller["age_s"] < FRESH_S
    return "" if fresh else f"the controller wrote {controller['age_s']:.1f} s ago for the last time"


def _replicas(stage: Stage, struck: Struck) -> str:
    alive = {engine.pid for engine in stage.census.engines()}
    hit = {victim.pid for victim in struck.victims if victim.kind == ENGINE}
    ready = [replica for replica in stage.engines_of(STEADY) if replica["pid"] in alive - hit]
    if len(ready) < STEADY_REPLICAS:
        return f"{len(ready)} of {STEADY_REPLICAS} replicas of {STEADY} are ready"
    left = sorted(alive & hit)
    return f"process {left[0]} is still there" if left else ""


def _processes(stage: Stage, struck: Struck) -> str:
    now = stage.census.look()
    recorded = {replica["replica_id"] for replica in stage.admin.replicas()}
    strays = sorted(process.replica for process in now if process.kind == ENGINE and process.replica not in recorded)
    if strays:
        return f"the engine of {strays[0]} is in nobody's books"
    starter_hit = any(victim.kind == "launcher" for victim in struck.victims)
    return differing(count(now), struck.before, spares=starter_hit)


def differing(now: Counter[str], before: Mapping[str, int], spares: bool = False) -> str:
    """Which kind there is too little or too much of; engines are counted by their replicas elsewhere.

    ``spares``: children that wait to become engines count as well: each start takes one, which is soon replaced.
    """
    for kind in sorted({*now, *before} - {ENGINE}):
        had, has = before.get(kind, 0), now.get(kind, 0)
        if kind not in LOOSE and has != had:
            return f"{has} processes of kind {kind}, there were {had}"
        if has > had + LOOSE.get(kind, 0) or (spares and kind == SPARE and has < had):
            return f"{has} processes of kind {kind}, there were {had}"
    return ""


def kept(before: Mapping[str, int], spared: Sequence[str], engines: Sequence[Process]) -> list[str]:
    """Replicas that lived before and whose process is gone, but for those that were meant to go (``spared``)."""
    alive = {engine.pid for engine in engines}
    return sorted(replica for replica, pid in before.items() if replica not in spared and pid not in alive)

"""The same questions put to a bare engine: the difference is what gateway, controller and Ray add to a start."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from loadtests.coldstart.bare import BareEngine, BareLauncher
from loadtests.coldstart.figure import Figure
from loadtests.coldstart.memory import taken
from loadtests.coldstart.scene import KV_MIB, SIZES, TINY_KV_MIB, Sized
from loadtests.coldstart.speed import token_gap_s, tokens_per_s
from loadtests.target import Target
from loadtests.wire import CallFailed

SAMPLES = 10  # of the launcher, over all cycles
SPEED_PASSES = 3

Say = Callable[[str], None]
Ask = Callable[[Target, str], float]


def bare_first_tokens(launcher: BareLauncher, sized: Sized, folder: Path, count: int, ask: Ask) -> list[Figure]:
    """From the order to the first token over HTTP, stopped and asleep; the very first start writes the layout."""
    stopped = Figure("bare engine, order to first token", sized.name, goal=sized.first_token_goal_s)
    ready = Figure("bare engine, ready, to first token", sized.name)
    asleep = Figure("bare engine, wake to first token", sized.name)
    try:
        for number in range(count + 1):
            began_s = time.perf_counter()
            engine = launcher.start(sized.name, folder, sized.weights_mib, KV_MIB)
            started_s = time.perf_counter() - began_s
            first_token_s = started_s + ask(engine.target, sized.name)
            if number == 0:
                stopped.beside["first start ever"] = {"to first token": round(first_token_s, 4)} | timings(engine)
            else:
                stopped.values.append(first_token_s)
                stopped.beside.setdefault("phases", []).append(timings(engine))
                _sleep_and_wake(engine, sized.name, ready, asleep, ask)
            engine.stop()
    except CallFailed as problem:
        for figure in (stopped, ready, asleep):
            figure.problem = str(problem)
    return [stopped, ready, asleep]


def _sleep_and_wake(engine: BareEngine, model: str, ready: Figure, asleep: Figure, ask: Ask) -> None:
    engine.settle()
    ready.values.append(ask(engine.target, model))
    engine.call("sleep")
    began_s = time.perf_counter()
    engine.call("wake")
    woken_s = time.perf_counter() - began_s
    asleep.values.append(woken_s + ask(engine.target, model))


def timings(engine: BareEngine) -> dict[str, float]:
    return {phase: round(float(spent_s), 4) for phase, spent_s in engine.status["timings_s"].items()}


def bare_speeds(launcher: BareLauncher, sized: Sized, folder: Path) -> list[Figure]:
    """Of the engine once its weights are as they will stay."""
    gap = Figure("bare engine, time between tokens", sized.name, unit="ms")
    crowd = Figure("bare engine, 32 callers", sized.name, unit="tokens/s")
    try:
        engine = launcher.start(sized.name, folder, sized.weights_mib, KV_MIB)
        mapped_s = token_gap_s(engine.target, sized.name, tokens=16)
        gap.beside = {"before the switch-over, ms": round(1e3 * mapped_s, 3), "weights": engine.settle()}
        measure_speeds(engine.target, sized.name, gap, crowd)
        engine.stop()
    except CallFailed as problem:
        gap.problem = crowd.problem = str(problem)
    return [gap, crowd]


def measure_speeds(target: Target, model: str, gap: Figure, crowd: Figure) -> None:
    """One uncounted pass and SPEED_PASSES counted ones of each. Raises CallFailed."""
    for number in range(SPEED_PASSES + 1):
        gap_ms, rate = 1e3 * token_gap_s(target, model), tokens_per_s(target, model)
        if number:
            gap.values.append(gap_ms)
            crowd.values.append(rate)


def cycles(launcher: BareLauncher, folder: Path, count: int, ask: Ask, say: Say) -> list[Figure]:
    """Start, one answer, stop, ``count`` times over: what the launcher and the machine are left with."""
    model = SIZES[0].name
    took = Figure(f"{count} cycles of start, answer, stop: each", model)
    grown = Figure(f"{count} cycles: the launcher's growth, from the first tenth on", model, unit="MiB")
    samples = []
    try:
        for number in range(count):
            began_s = time.perf_counter()
            engine = launcher.start(model, folder, SIZES[0].weights_mib, TINY_KV_MIB)
            ask(engine.target, model)
            engine.stop()
            took.values.append(time.perf_counter() - began_s)
            if (number + 1) % max(1, count // SAMPLES) == 0:
                samples.append(taken([launcher.pid]))
                say(f"{number + 1} cycles: {samples[-1].document()}")
    except CallFailed as problem:
        took.problem = grown.problem = str(problem)
    if samples:
        grown.values = [(samples[-1].rss_bytes - samples[0].rss_bytes) / 2**20]
        grown.beside["launcher"] = [sample.document() for sample in samples]
    return [took, grown]

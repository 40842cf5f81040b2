"""The requests of one run: an hour of a published trace, or of made-up traffic, played in a minute."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from packers.sim import Trace, read_trace
from packers.sim.formats import recognise, servegen
from packers.sim.generate import Traffic, generate

HOUR_S = 3600.0
BURSTS_A_DAY, BURST_S, BURST_FACTOR, GAPS_CV = 48.0, 240.0, 8.0, 2.0
MEAN_TOKENS, MOST_TOKENS = 6.0, 24


@dataclass(frozen=True, slots=True)
class Minute:
    """``trace``: times in seconds of the run, tokens to be generated, models by the service's own names."""

    source: str
    trace: Trace
    seconds: float


def take_minute(file: Path | None, models: Sequence[str], *, rate_per_s: float, seconds: float, seed: int) -> Minute:
    """``file``: a trace in any format that ``roundhouse simulate`` reads; None: made up. Its busiest or, where it
    describes clients, some of its models stand for ``models``. Raises TraceError, OSError."""
    rng = np.random.default_rng(seed)
    if file is None:
        source, trace = "made up", _made_up(len(models), rate_per_s, seconds, rng)
    else:
        source, trace = file.name, _from_file(file, len(models), rate_per_s, seconds, rng)
    return Minute(source, _with_tokens(trace, models, rng), seconds)


def _made_up(count: int, rate_per_s: float, seconds: float, rng: np.random.Generator) -> Trace:
    """An hour, since rates are constant for a minute there, so many times as fast."""
    factor = HOUR_S / seconds
    traffic = Traffic(
        models=count,
        rate_per_s=rate_per_s / factor,
        duration_s=HOUR_S,
        zipf=0.8,
        cv=GAPS_CV,
        bursts_per_day=BURSTS_A_DAY,
        burst_factor=BURST_FACTOR,
        burst_s=BURST_S,
    )
    return generate(traffic, rng).scale(factor)


def _from_file(file: Path, count: int, rate_per_s: float, seconds: float, rng: np.random.Generator) -> Trace:
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
        first = next(lines, "")
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
        if first.strip() and recognise(first, str(file)) == "servegen":
            return _clients(servegen.read(lines, str(file)), count, rate_per_s, seconds, rng)
        listed = read_trace(lines, str(file))
    busiest = listed.only(listed.busiest(min(count, len(listed.names))))
    wanted = min(len(busiest), round(rate_per_s * seconds))
    first_one = int(rng.integers(0, len(busiest) - wanted + 1))
    from_s, until_s = float(busiest.at_s[first_one]), float(busiest.at_s[first_one + wanted - 1]) + 1e-6
    return busiest.clip(from_s, until_s).scale((until_s - from_s) / seconds)


def _clients(found: servegen.Clients, count: int, rate_per_s: float, seconds: float, rng: np.random.Generator) -> Trace:
    """An hour of ``count`` clients that send anything then."""
    hours = max(1, int(found.end_s // HOUR_S))
    from_s = HOUR_S * int(rng.integers(0, hours))
    chosen = found.sample(count, rng, from_s, from_s + HOUR_S)
    factor = HOUR_S / seconds
    return chosen.trace(rng, from_s=from_s, until_s=from_s + HOUR_S, rate_per_s=rate_per_s / factor).scale(factor)


def _with_tokens(trace: Trace, models: Sequence[str], rng: np.random.Generator) -> Trace:
    """Short answers: they are to keep real engines busy, not to fill the minute."""
    drawn = rng.geometric(1 / MEAN_TOKENS, len(trace))
    tokens = np.clip(np.where(trace.output_tokens > 0, trace.output_tokens, drawn), 1, MOST_TOKENS)
    names = trace.busiest(len(trace.names))
    place = {name: index for index, name in enumerate(names)}
    model = np.array([place[name] for name in trace.names], np.int32)[trace.model]
    return Trace.of(models[: len(names)], trace.at_s, model, output_tokens=tokens)

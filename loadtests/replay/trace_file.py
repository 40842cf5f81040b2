"""Arrivals of the suite ``replay``: a trace in any format that ``roundhouse simulate`` reads, and recordings."""

from __future__ import annotations

import gzip
import json
import math
import random
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np

from loadtests.load.plan import Arrival, Phase, Plan
from loadtests.load.settings import Settings, SettingsError
from loadtests.load.wish import Mix, Wish
from packers.sim import Trace, TraceError, read_trace
from packers.sim.formats import recognise, servegen

CLIENTS_PER_S = 5.0  # of traces that describe clients
LONGEST_PROMPT, LONGEST_ANSWER = 100_000, 10_000  # tokens


def arrivals(file: Path, settings: Settings) -> Plan:
    """Raises SettingsError."""
    try:
        trace = read_file(file, settings)
    except TraceError as problem:
        raise SettingsError(f"trace: {problem}") from None
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile):
        kind = "gzip" if file.suffix == ".gz" else "text"
        raise SettingsError(f"trace: {file} is no {kind}: a trace is CSV or JSONL, .gz too") from None
    except OSError as problem:
        raise SettingsError(f"trace: {file} cannot be read: {problem.strerror or problem}") from None
    mix = Mix(settings)
    rng = random.Random(f"replay/{settings.seed}")
    stands = _stand_ins(trace, settings.models + settings.embedders)
    fitted = trace.clip(0.0, settings.duration_s)
    found = []
    blocks = fitted.blocks or [()] * len(fitted)
    for at_s, model, read, written, ids in zip(
        fitted.at_s.tolist(), fitted.model.tolist(), fitted.input_tokens.tolist(), fitted.output_tokens.tolist(),
        blocks, strict=True,
    ):  # fmt: skip
        drawn = mix.draw(rng, model=stands[trace.names[model]], tag=str(trace.names[model]))
        found.append(Arrival(at_s, _as_traced(drawn, read, written, ids)))
    if not found:
        played = f"the first {settings.duration_s:g} s at {settings.speed:g}x"
        raise SettingsError(f"{file} has no request in {played}; give --rate or another --speed")
    # A trace that is over sooner is not waited for: nobody asks any more.
    end_s = min(settings.duration_s, math.floor(found[-1].at_s) + 1.0)
    rate = len(found) / end_s
    return Plan((Phase(file.name, 0.0, end_s, rate_per_s=round(rate, 3)),), end_s, tuple(found))


def _as_traced(drawn: Wish, read: int, written: int, blocks: tuple[int, ...]) -> Wish:
    """Lengths that are not known (0) stay as drawn; a prompt whose blocks are known shares what they say, no more."""
    prompt = min(read, LONGEST_PROMPT) if read else drawn.prompt_tokens
    output = min(written, LONGEST_ANSWER) if written else drawn.output_tokens
    prefix = -1 if blocks else drawn.prefix
    return Wish(
        drawn.model, drawn.dialect, prompt, output, drawn.stream, prefix, drawn.place, 1, "", drawn.tag, blocks
    )  # fmt: skip


def _stand_ins(trace: Trace, models: tuple[str, ...]) -> dict[str, str]:
    """By name where the service has the trace's models; else its busiest for our first, and round again."""
    ranked = [str(name) for name in trace.busiest(len(trace.names))]
    return {name: name if name in models else models[place % len(models)] for place, name in enumerate(ranked)}


def read_file(file: Path, settings: Settings) -> Trace:
    """At the settings' speed; at their rate instead, where they name one. Raises TraceError, OSError."""
    with _opened(file) as lines:
        rest = iter(lines)
        first = next(rest, "")
        whole = chain([first], rest)
        if _is_recording(first):
            trace = _recorded(rest, str(file), settings.seed)
        elif first.strip() and recognise(first, str(file)) == "servegen":
            return _clients(servegen.read(whole, str(file)), settings)
        else:
            trace = read_trace(whole, str(file), seed=settings.seed)
    return trace.to_rate(settings.rate_per_s) if settings.rate_per_s else trace.scale(settings.speed)


def _clients(found: servegen.Clients, settings: Settings) -> Trace:
    """Clients whose arrivals are described, not listed: as much of their time as is played, at CLIENTS_PER_S or the
    rate that the settings name."""
    rate_per_s = (settings.rate_per_s or CLIENTS_PER_S) / settings.speed
    until_s = min(found.end_s, settings.duration_s * settings.speed)
    rng = np.random.default_rng(settings.seed)
    return found.trace(rng, from_s=0.0, until_s=until_s, rate_per_s=rate_per_s).scale(settings.speed)


def _opened(file: Path) -> TextIO:
    return gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8")


def _is_recording(first: str) -> bool:
    """What ``roundhouse record`` writes begins with a header of that kind."""
    try:
        document = json.loads(first)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("kind") == "header"


def _recorded(lines: Iterable[str], name: str, seed: int) -> Trace:
    """The requests that were told since the line before came in between, at moments that nobody noted: drawn evenly."""
    rng = random.Random(f"recording/{seed}")
    times: list[float] = []
    models: list[str] = []
    since: dict[str, float] = {}
    for at_s, model, count in _counts(lines, name):
        from_s = since.get(model, at_s - 1.0)
        times += [rng.uniform(from_s, at_s) for _ in range(count)]
        models += [model] * count
        since[model] = at_s
    if not times:
        raise TraceError("it has no arrivals", name=name)
    names = sorted(set(models))
    begin_s = min(times)
    return Trace.of(names, [at_s - begin_s for at_s in times], [names.index(model) for model in models])


def _counts(lines: Iterable[str], name: str) -> Iterator[tuple[float, str, int]]:
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            if document.get("kind") == "arrivals":
                yield float(document["at_s"]), str(document["model"]), int(document["count"])
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise TraceError(f"is no line of a recording: {problem}", name=name, line=number) from None

"""Where the requests of a simulation come from: a published trace, a recording of this service, or made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.errors import AskedWrongly
from gateway.cli.text_files import read_text_lines
from models.catalog.errors import UnitError
from models.catalog.problems import did_you_mean
from models.catalog.units import parse_seconds

if TYPE_CHECKING:
    from models.control.recording import Arrivals
    from packers.sim import Trace
    from packers.types import Snapshot

KINDS = ("zipf", "poisson", "diurnal", "bursts")
# What people write -> the field of packers.sim.generate.Traffic.
_SHORT = {"rate": "rate_per_s", "duration": "duration_s", "service": "service_s"}
_KIND_DEFAULTS: dict[str, dict[str, float]] = {
    "zipf": {},
    "poisson": {"zipf": 0.0},
    "diurnal": {"swing": 0.8, "duration_s": 86_400.0},
    "bursts": {"bursts_per_day": 24.0},
}


@dataclass(frozen=True, slots=True)
class Source:
    """``snapshot``: the last one of a recording: by then start-up times were measured. None for any other trace."""

    name: str
    trace: Trace
    snapshot: Snapshot | None = None


def read_file(
    path: Path, *, seed: int, rate_per_s: float | None, single_model: str | None, known: Mapping[str, str] | None
) -> Source:
    """``known``: names and aliases that may come up -> model id (None: any). ``single_model``: what the model of
    traces without names is called. Raises AskedWrongly naming file, line and field."""
    from packers.sim import TraceError, read_trace

    lines = read_text_lines(path)
    first = next(lines, "")
    everything = chain([first] if first else [], lines)
    try:
        if first.startswith('{"kind":'):
            source = _recording(everything, path, rate_per_s)
        else:
            names = None if known is None else list(known)
            trace = read_trace(
                everything,
                str(path),
                models=names,
                model=single_model or (names[0] if names and len(names) == 1 else "model"),
                seed=seed,
                rate_per_s=rate_per_s,
            )
            source = Source(str(path), trace)
        return source if known is None else dataclasses.replace(source, trace=_by_id(source.trace, known, str(path)))
    except TraceError as problem:
        raise AskedWrongly(str(problem), code="invalid_trace", cure="see docs/packing.md for the formats") from None


def make_up(spec: str, seed: int, names: Sequence[str] | None) -> Source:
    """``zipf:models=100,rate=2,duration=2h``, to the models of these ``names``, if any. Raises AskedWrongly."""
    import numpy as np

    from packers.sim.generate import Traffic, generate

    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        raise _wrong(spec, f"{kind[:40]!r} is no kind of traffic", did_you_mean(kind, KINDS))
    values: dict[str, float] = dict(_KIND_DEFAULTS[kind])
    if names is not None:
        values["models"] = len(names)
    fields = {field.name for field in dataclasses.fields(Traffic)}
    for part in filter(None, (each.strip() for each in rest.split(","))):
        name, separator, value = part.partition("=")
        name = _SHORT.get(name, name)
        if not separator or name not in fields | {"hours"}:
            raise _wrong(spec, f"{part[:40]!r} is not a setting", did_you_mean(name, fields | {*_SHORT, "hours"}))
        name, factor = ("duration_s", 3600.0) if name == "hours" else (name, 1.0)
        values[name] = _number(spec, name, value) * factor
    try:
        traffic = Traffic(**{name: int(value) if name == "models" else value for name, value in values.items()})  # type: ignore[arg-type]
        return Source(spec, generate(traffic, np.random.default_rng(seed), names))
    except ValueError as problem:
        raise _wrong(spec, str(problem), "choose another value") from None


def _recording(lines: Iterable[str], path: Path, rate_per_s: float | None) -> Source:
    from models.control.recording import Arrivals, RecordingError, Step, read_lines

    snapshot, seen, began_s = None, [], None
    try:
        for line in read_lines(lines, str(path)):
            if isinstance(line, Step):
                snapshot = line.snapshot
                began_s = line.snapshot.now_s if began_s is None else began_s
            elif isinstance(line, Arrivals):
                began_s = line.at_s if began_s is None else began_s
                seen.append(line)
    except RecordingError as problem:
        raise AskedWrongly(str(problem), code="invalid_recording", cure="record it anew: roundhouse record") from None
    if not any(line.count for line in seen) or began_s is None:
        raise AskedWrongly(f"{path}: no request was recorded", code="invalid_recording", cure="record for longer")
    trace = _requests(seen, began_s)
    return Source(str(path), trace if rate_per_s is None else trace.to_rate(rate_per_s), snapshot)


def _requests(seen: list[Arrivals], began_s: float) -> Trace:
    """One request for each that was counted. How long it was served is known as the mean of its model."""
    import numpy as np

    from packers.sim import Trace

    names = sorted({line.model for line in seen})
    finished = {name: sum(line.finished for line in seen if line.model == name) for name in names}
    busy_s = {
        name: sum((line.service_s or 0.0) * line.finished for line in seen if line.model == name) for name in names
    }
    mean_s = np.array([busy_s[name] / finished[name] if finished[name] else 0.0 for name in names])
    place = {name: index for index, name in enumerate(names)}
    counts = [line.count for line in seen]
    model = np.repeat([place[line.model] for line in seen], counts)
    at_s = np.repeat([max(0.0, line.at_s - began_s) for line in seen], counts)
    return Trace.of(names, at_s, model, mean_s[model], start_unix_s=began_s)


def _by_id(trace: Trace, known: Mapping[str, str], name: str) -> Trace:
    """With aliases as the models that they name. Raises TraceError for a model that is unknown."""
    import numpy as np

    from packers.sim import Trace, TraceError

    unknown = [each for each in trace.names if each not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise TraceError(f"model {unknown[0]!r} is not in the configuration; {hint}", name=name, field="model")
    ids = list(dict.fromkeys(known[each] for each in trace.names))
    place = np.array([ids.index(known[each]) for each in trace.names], np.int32)
    return Trace.of(
        ids,
        trace.at_s,
        place[trace.model],
        trace.service_s,
        trace.input_tokens,
        trace.output_tokens,
        trace.start_unix_s,
    )


def _number(spec: str, name: str, text: str) -> float:
    try:
        return parse_seconds(text) if name.endswith("_s") and name != "rate_per_s" else float(text)
    except (UnitError, ValueError):
        raise _wrong(spec, f"{name}: {text[:40]!r} is not a number", "write it like rate=2 or duration=2h") from None


def _wrong(spec: str, message: str, cure: str) -> AskedWrongly:
    return AskedWrongly(f"--generate {spec[:80]}: {message}", code="invalid_traffic", cure=cure)

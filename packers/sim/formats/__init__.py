"""Traces as they are published and as the project records them; the first line tells which format it is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterable

import numpy as np

from packers.sim.formats import azure, genai, mooncake, plain, recording, servegen
from packers.sim.trace import Trace, TraceError

FORMATS: dict[str, tuple[str, ...]] = {
    "azure": azure.NEEDS,
    "genai": genai.NEEDS,
    "servegen": servegen.NEEDS,
    "mooncake": mooncake.NEEDS,
    "recording": recording.NEEDS,
    "plain": plain.NEEDS,
}
JSON_FORMATS = ("mooncake", "recording")


def read_trace(
    lines: Iterable[str],
    name: str,
    *,
    models: Collection[str] | None = None,
    model: str = "model",
    seed: int = 0,
    rate_per_s: float | None = None,
) -> Trace:
    """``name``: for messages. ``models``: the only ones that may come up (None: any). ``model``: what the one model of
    traces without model names is called. ``seed``: for formats that describe arrivals instead of listing them.
    ``rate_per_s``: the mean rate to scale the trace to. Raises TraceError, which names file, line and field.
    """
    first, everything = _peek(lines, name)
    chosen = recognise(first, name)
    if chosen == "servegen":
        return _servegen(everything, name, models, seed, rate_per_s)
    single = {"azure": azure.read, "mooncake": mooncake.read}
    if chosen in single:
        if models is not None and model not in models:
            raise TraceError(f"its requests are for model {model!r}, which is unknown", name=name)
        trace = single[chosen](everything, name, model)
    else:
        several: dict[str, Callable[[Iterable[str], str, Collection[str] | None], Trace]]
        several = {"genai": genai.read, "recording": recording.read, "plain": plain.read}
        trace = several[chosen](everything, name, models)
    return trace if rate_per_s is None else trace.to_rate(rate_per_s)


def recognise(first_line: str, name: str) -> str:
    """Which of FORMATS begins like this: the one of which the most columns are there. Raises TraceError."""
    text = first_line.strip().removeprefix("\ufeff")
    if text.startswith("{"):
        try:
            keys = set(json.loads(text))
        except ValueError as problem:
            raise TraceError(f"is not JSON: {problem}", name=name, line=1) from None
        among: Iterable[str] = JSON_FORMATS
    else:
        keys = {column.strip().strip('"') for column in text.split(",")}
        among = (one for one in FORMATS if one not in JSON_FORMATS)
    best = max(among, key=lambda one: len(keys.intersection(FORMATS[one])) / len(FORMATS[one]))
    if not keys.intersection(FORMATS[best]):
        known = "; ".join(f"{one}: {','.join(needs)}" for one, needs in FORMATS.items())
        raise TraceError(f"the first line is of no format that is known ({known})", name=name, line=1)
    return best


def _peek(lines: Iterable[str], name: str) -> tuple[str, Iterable[str]]:
    rest = iter(lines)
    seen: list[str] = []
    for line in rest:
        seen.append(line)
        if line.strip():
            return line, itertools.chain(seen, rest)
    raise TraceError("it is empty", name=name)


def _servegen(
    lines: Iterable[str], name: str, models: Collection[str] | None, seed: int, rate_per_s: float | None
) -> Trace:
    clients = servegen.read(lines, name)
    for client in clients.clients:
        if models is not None and client.name not in models:
            raise TraceError(f"model {client.name!r} is unknown", name=name, field="client")
    return clients.trace(np.random.default_rng(seed), rate_per_s=rate_per_s)

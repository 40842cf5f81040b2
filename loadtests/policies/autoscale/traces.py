"""The traces: every CSV of the Azure folder, and the same bursts in other orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.policies.options import BadData, Options, read_lines
from packers.sim.formats import read_trace
from packers.sim.service import ServiceTimes, TokenRates
from packers.sim.trace import TraceError

FOLDER = "azure_llm2023"
KNOWN = "AzureLLMInferenceTrace_code"  # the one that the goals are stated for
# Chosen so that fixed sizes reproduce the anchors' p99 waits (research note: 5.3, 3.6, 2.4 s with 6, 7, 8 replicas of 4
# slots; with these rates 5.4, 3.7, 2.5 s): 8,000 prompt tokens a second, 30 ms for each token of the answer.
RATES = TokenRates(fixed_s=0.0, prefill_per_s=8000.0, decode_per_s=1 / 0.03)
SERVICE = ServiceTimes(RATES, recorded=False)
PAUSE_S = 10.0  # a silence of this length ends a burst


@dataclass(frozen=True, slots=True)
class Requests:
    """``at_s`` ascending; ``name``: of the item in the report; ``known``: the goals' own trace, as published."""

    name: str
    at_s: tuple[float, ...]
    service_s: tuple[float, ...]
    known: bool = False


def load(options: Options) -> list[Requests]:
    """Every file, and each with its bursts in another order for every seed. Raises BadData."""
    found = []
    for path in options.files(f"{FOLDER}/*.csv"):
        name = path.name.removesuffix(".gz").removesuffix(".csv")
        try:
            trace = read_trace(read_lines(path), str(path))
        except TraceError as problem:
            raise BadData(str(problem)) from None
        at_s = trace.at_s - trace.at_s[0]
        service_s = SERVICE.of(trace)
        short = name.removeprefix("AzureLLMInferenceTrace_")
        published = Requests(short, tuple(at_s.tolist()), tuple(service_s.tolist()), name == KNOWN)
        found.append(published)
        found += [shuffled(published, seed) for seed in options.seeds or ()]
    return found


def shuffled(requests: Requests, seed: int) -> Requests:
    """The same bursts, each with the silence after it, in another order: the same totals, another history to learn."""
    at_s, service_s = np.array(requests.at_s), np.array(requests.service_s)
    begins = [0, *(np.flatnonzero(np.diff(at_s) > PAUSE_S) + 1).tolist()]
    ends = [*begins[1:], len(at_s)]
    lasts_s = np.diff([at_s[place] for place in begins], append=at_s[-1] + 2 * PAUSE_S)
    times, services, now_s = [], [], 0.0
    for burst in np.random.default_rng(seed).permutation(len(begins)):
        part = slice(begins[burst], ends[burst])
        times.append(at_s[part] - at_s[begins[burst]] + now_s)
        services.append(service_s[part])
        now_s += float(lasts_s[burst])
    shuffled_s = np.concatenate(times)
    return Requests(
        f"{requests.name}, bursts in order {seed}",
        tuple((shuffled_s - shuffled_s[0]).tolist()),
        tuple(np.concatenate(services).tolist()),
    )

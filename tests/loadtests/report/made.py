"""Runs for reports: made up, or made of a plan as a generator would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loadtests.load.plan import Arrival, Phase, Plan
from loadtests.load.settings import Settings
from loadtests.load.wish import Wish
from loadtests.outcome.document import Seen, document, write
from loadtests.outcome.health import Second, WorkerHealth
from loadtests.outcome.rows import Row
from loadtests.outcome.slo import NO_SLO, Slo
from loadtests.report.blocks import Floats
from loadtests.report.passes import Pairs
from tests.loadtests.outcome.made import row

ENVIRONMENT = {
    "machine": {"cpu": "a processor", "cores": 4, "ram_bytes": 2**34, "gpus": []},
    "versions": {"python": "3"},
}
TIMING = {"auth": 0.1, "queue": 0.0, "wake": 0.0, "connect": 0.2, "engine-ttfb": 9.0}


def autoregressive(rng: np.random.Generator, count: int, weight: float) -> Floats:
    """Standard normal, each value tied to the one before by ``weight``."""
    found = np.empty(count)
    found[0] = rng.standard_normal()
    noise = rng.standard_normal(count) * np.sqrt(1 - weight**2)
    for place in range(1, count):
        found[place] = weight * found[place - 1] + noise[place]
    return found


def answered(at_ms: float, ttft_ms: float, *, through: bool = False, **fields: Any) -> Row:
    """Of an answer whose head came 0.7 ms before its first token."""
    made = row(at_ms, ttft_ms=ttft_ms, e2e_ms=ttft_ms + 20.0, **fields)
    assert made.first_token_us is not None
    made.head_us = made.first_byte_us = made.first_token_us - 700
    made.timing_ms = dict(TIMING) if through else {}
    return made


def rows_at(
    rng: np.random.Generator,
    count: int,
    *,
    added_ms: float = 0.0,
    spread: float = 0.3,
    through: bool = True,
    **fields: Any,
) -> list[Row]:
    """One each 50 ms; TTFT around 20 ms."""
    ttft = 20.0 * np.exp(rng.standard_normal(count) * spread) + added_ms
    return [answered(50.0 * place, float(value), through=through, **fields) for place, value in enumerate(ttft)]


def plan_of(count: int, *, closed: bool = False, phases: Sequence[Phase] = ()) -> Plan:
    lasts_s = count * 0.05
    whole = tuple(phases) or (Phase("steady", 0.0, lasts_s, rate_per_s=20.0),)
    arrivals = () if closed else tuple(Arrival(0.05 * place, Wish("m")) for place in range(count))
    return Plan(whole, lasts_s, arrivals)


def run(
    rows: Sequence[Row], *, plan: Plan | None = None, slo: Slo = NO_SLO, service: Any = None, **target: Any
) -> dict[str, Any]:
    """A run's document."""
    made = plan or plan_of(len(rows))
    seen = Seen(
        settings=Settings(suite="steady", models=("m",), salt="s", rate_per_s=20.0),
        started_unix_s=1_800_000_000.0,
        duration_s=made.end_s,
        rows=list(rows),
        seconds=[Second(1.0, 0, 0.1, 0.0, 1, 20, 40, 0.1, 0.1)],
        workers=[WorkerHealth(0, planned=len(rows), sent=len(rows), cpu_s=0.1, wall_s=1.0)],
        service=service if service is not None else {"problem": "no admin API"},
        marks=[],
    )
    about = {"url": "http://127.0.0.1:1", "service": "roundhouse", "version": "1.0", "simulated": False}
    return document(seen, made, about | target, ENVIRONMENT, slo)


def service_of(until_s: float, **models: Sequence[tuple[float, str, int]]) -> dict[str, Any]:
    """``models``: (from when on, tier, ready replicas) of each."""
    at_s = [round(0.25 * place, 3) for place in range(int(until_s * 4))]
    found = {}
    for name, steps in models.items():
        now = [next((step for step in reversed(steps) if step[0] <= at), steps[0]) for at in at_s]
        zeros = [0] * len(at_s)
        found[name] = {
            "starting": [int(step[1] == "page_cache") for step in now], "ready": [step[2] for step in now],
            "draining": zeros, "asleep": zeros, "tier": [step[1] for step in now], "held": zeros, "in_flight": zeros,
        }  # fmt: skip
    return {"at_s": at_s, "models": found, "missed": 0}


def saved(folder: Path, made: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "run.json", made)
    return folder / "run.json"


def saved_pairs(folder: Path, directs: Sequence[dict[str, Any]], throughs: Sequence[dict[str, Any]]) -> Path:
    for number, (direct, through) in enumerate(zip(directs, throughs, strict=True), 1):
        saved(folder / f"{number}-direct", direct)
        saved(folder / f"{number}-through", through)
    names = range(1, len(directs) + 1)
    pairs = Pairs(
        [f"{n}-direct/run.json" for n in names], [f"{n}-through/run.json" for n in names], argv=["steady", "--direct"]
    )
    (folder / "pairs.json").write_bytes(msgspec.json.encode(pairs))
    return folder

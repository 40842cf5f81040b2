"""Folders as load tests leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.compare.outcome import outcome
from loadtests.load.plan import Phase
from loadtests.outcome.slo import NO_SLO
from loadtests.report.analysis import analysed
from loadtests.report.content import document
from loadtests.report.sides import load
from tests.loadtests.compare.made import run as compared_run
from tests.loadtests.outcome.made import row
from tests.loadtests.report.made import plan_of, rows_at, run, saved, saved_pairs, service_of

PHASES = (Phase("calm", 0.0, 1.0, rate_per_s=1.0), Phase("spike", 1.0, 3.0, rate_per_s=20.0))
SERVICE = service_of(3.0, **{"tiny-llama": [(0.0, "gpu", 1), (1.5, "gpu", 3)]})


def gateway(folder: Path, late_ms: float = 0.0) -> Path:
    """What ``--direct`` leaves: two passes; 0.5 ms are added."""
    rng = np.random.default_rng(0)
    sides = ([run(rows_at(rng, 120, added_ms=added, late_ms=late_ms)) for _ in range(2)] for added in (0.0, 0.5))
    saved_pairs(folder, *sides)
    (folder / "report.json").write_text(json.dumps(document(analysed(load([folder]), NO_SLO))))
    return folder


def tiers(folder: Path, late_ms: float = 0.0) -> Path:
    rows = [
        row(1000.0 * place, ttft_ms=ttft_ms, tag=tag, late_ms=late_ms)
        for place, (tag, ttft_ms) in enumerate([("disk", 300.0), ("host", 30.0), ("gpu", 10.0), ("disk", 400.0)])
    ]
    saved(folder, run(rows, simulated=True))
    return folder


def spike(folder: Path, late_ms: float = 0.0) -> Path:
    rng = np.random.default_rng(0)
    plan = plan_of(60, phases=PHASES)
    sides: list[list[dict[str, Any]]] = []
    for _ in range(2):
        rows = rows_at(rng, 60, late_ms=late_ms)
        for place, each in enumerate(rows):
            each.phase = int(place >= 20)
        sides.append([run(rows, plan=plan, service=SERVICE)] * 2)
    return saved_pairs(folder, *sides)


def peers(folder: Path, late_ms: float = 0.0, **missing: str) -> Path:
    """``late_ms``: of one of three."""
    runs = {
        "roundhouse": [compared_run([10, 20])],
        "plain-vllm": [compared_run([11, 21])],
        "litellm": [compared_run([15, 25], late_ms=late_ms)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    made = outcome({name: found for name, found in runs.items() if name not in missing}, missing, 1, NO_SLO)
    (folder / "comparison.json").write_text(json.dumps(made))
    return folder

"""What is measured for docs/latency-cost.md: a load test each, and how its table is made of what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.compare.startable import STARTABLE
from loadtests.latency_cost import figures
from loadtests.latency_cost.figures import Rows
from loadtests.outcome.document import RUN_FILE, DocumentError, read
from loadtests.outcome.slo import NO_SLO
from loadtests.report.analysis import pooled
from loadtests.report.passes import PairsError
from loadtests.report.sides import Side, load

MODEL = "tiny-llama"
PEERS = "peers"
STARTED = ("roundhouse", "plain-vllm", "litellm", "vllm-router", "ray-serve-llm")


class NoFigures(Exception):
    """The load test left none, or none that may be believed; a line for each reason."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))


@dataclass(frozen=True, slots=True)
class Measured:
    """``said``: the figures in one line. ``of``: the document with ``environment``. ``left_out``: by name, why a row
    has no figures."""

    rows: Rows
    said: str
    amount: str
    of: Mapping[str, Any]
    started_unix_s: float
    simulated: bool
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """``words``: for ``python -m loadtests``. ``measured``: of its folder; raises NoFigures. ``served``: it loads the
    service that runs; else it starts what it loads."""

    words: tuple[str, ...]
    measured: Callable[[Path], Measured]
    served: bool = True


def gateway(folder: Path) -> Measured:
    report = _json(folder / "report.json")
    _believed([f"{side['name']}: {reason}" for side in report["sides"] for reason in side["reasons"]])
    rows = figures.gateway(report)
    through = report["sides"][-1]
    amount = f"{_passes(through['passes'])} of {through['requests'] // through['passes']} requests a side"
    said = ", ".join(f"{row[0]} {row[-1]}" for row in rows)
    return _measured(rows, said, amount, report, through)


def tiers(folder: Path) -> Measured:
    run = _run(folder / RUN_FILE)
    _believed(run["generator"]["reasons"])
    rows = figures.tiers(run)
    said = ", ".join(f"{row[0]} {row[2]} ms" for row in rows)
    return _measured(rows, f"TTFT p50: {said}", _passes(run["settings"]["passes"]), run, run)


def spike(folder: Path) -> Measured:
    try:
        direct, through = load([folder]).sides
    except (DocumentError, PairsError) as problem:
        raise NoFigures([str(problem)]) from None
    reasons = [
        f"{side.name}: {reason}"
        for side in (direct, through)
        for one in side.passes
        for reason in one.document["generator"]["reasons"]
    ]
    _believed(reasons)
    rows = figures.spike(_by_phase(direct), _by_phase(through), figures.most_ready(through, MODEL))
    said = ", ".join(f"{row[0]}: {row[2]} / {row[3]} alone, {row[4]} / {row[5]} through" for row in rows)
    amount = f"{_passes(len(through.passes))} a side"
    return _measured(rows, f"TTFT p50 / p99 {said} ms", amount, through.first, through.first)


def peers(folder: Path) -> Measured:
    """Who failed, or was measured by runs that are not valid, has a row without figures; the others have theirs."""
    made = _json(folder / "comparison.json")
    bad = figures.spoiled(made)
    good = [target for target in made["targets"] if target["name"] not in bad]
    if len(good) < 2 or len(made["plan"]) != 1:
        raise NoFigures([f"{name}: {why}" for name, why in bad.items()] or ["there are not two to be compared"])
    rows = figures.peers(made)
    said = ", ".join(f"{row[0]} {row[1]}" for row in rows)
    amount = f"{_passes(made['passes'])} each"
    first = good[0]["passes"][0] | {"target": good[0]["target"]}
    return _measured(rows, f"TTFT p50: {said} ms", amount, made, first, left_out=bad)


def present(installed: Path | None) -> tuple[list[str], dict[str, str]]:
    """Of STARTED: what can be started here, and why what is missing cannot."""
    missing = {name: why for name in STARTED if (why := STARTABLE[name].missing(installed))}
    return [name for name in STARTED if name not in missing], missing


def _measured(
    rows: Rows, said: str, amount: str, of: Mapping[str, Any], run: Mapping[str, Any],
    left_out: Mapping[str, str] | None = None,
) -> Measured:  # fmt: skip
    begun = run["started_unix_s"]
    began_s = float(begun[0] if isinstance(begun, list) else begun)
    return Measured(rows, said, amount, of, began_s, bool(run["target"].get("simulated")), left_out or {})


def _passes(count: int) -> str:
    return f"{count} pass{'' if count == 1 else 'es'}"


def _by_phase(side: Side) -> list[dict[str, Any]]:
    rates = {phase["name"]: phase["rate_per_s"] for phase in side.first["phases"]}
    return [{**phase, "rate_per_s": rates[phase["name"]]} for phase in pooled(side, NO_SLO)["phases"]]


def _believed(reasons: Sequence[str]) -> None:
    if reasons:
        raise NoFigures(reasons)


def _run(file: Path) -> dict[str, Any]:
    try:
        return read(file)
    except DocumentError as problem:
        raise NoFigures([str(problem)]) from None


def _json(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as problem:
        raise NoFigures([f"{file.name}: {problem}"]) from None
    return found


PARTS = {
    "gateway": Part(
        ("steady", "--models", MODEL, "--rate", "5", "--duration", "30s", "--direct", "--pairs", "5"), gateway
    ),
    "tiers": Part(("zero", "--models", MODEL, "--passes", "10"), tiers),
    "spike": Part(("spike", "--models", MODEL, "--direct", "--pairs", "3", "--reset"), spike),
    PEERS: Part(("compare", "steady", "--rate", "4", "--duration", "20s", "--start"), peers, served=False),
}

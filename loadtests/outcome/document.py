"""The document that a run leaves, ``run.json``: everything that a report can say can be drawn from it alone.

====================  ==================================================================================================
``format``            ``roundhouse-loadtest``; ``version``: of this shape
``suite``             its name; ``kind``: open (arrivals), closed (users) or script (one after the other)
``settings``          ``loadtests.load.settings.Settings``: what was asked for, seed and salt too
``plan``              ``digest``: runs with the same one asked the same at the same times; ``requests``: planned (open)
``started_unix_s``    the run's beginning: all other times count from it; ``duration_s``: until nothing was begun
``target``            ``url``, ``service`` (roundhouse or another), ``version``, ``simulated`` GPUs
``environment``       ``machine`` and ``versions`` of the generator's side; no host name
``phases``            ``name, from_s, until_s, rate_per_s, users``; a request is of the phase in which it was due
``requests``          every request as columns (``loadtests.outcome.rows``): ``count``, ``columns``, ``names`` of what
                      the text columns point to, ``server_timing_ms`` by part
``series.service``    from the admin API: ``at_s``, and for each model ``starting, ready, draining, asleep`` replicas,
                      ``tier`` (gpu, host, page_cache, disk, remote), ``held``, ``in_flight``;
                      ``gateway``: ``at_s, resident_bytes`` of its processes; only a ``problem`` where the target
                      has no such API
``series.generator``  columns of ``loadtests.outcome.health.Second``
``marks``             ``at_s, what, detail``: kills, orders, tiers reached
``generator``         ``loadtests.outcome.health``: ``valid``, ``reasons``, lateness, processor time
``summary``           ``loadtests.outcome.summary``; ``knee`` of a ramp
``slo``               the goals, ``verdict``: ``kept`` and each check
====================  ==================================================================================================
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec

from loadtests.load.plan import Plan
from loadtests.load.settings import Settings
from loadtests.outcome import health
from loadtests.outcome.knee import knee
from loadtests.outcome.rows import Row, columns
from loadtests.outcome.slo import NO_SLO, Good, Slo, judge, kept
from loadtests.outcome.summary import summary

FORMAT, VERSION = "roundhouse-loadtest", 1
RUN_FILE = "run.json"


class DocumentError(ValueError):
    """The file is no run."""


class Seen(msgspec.Struct, kw_only=True):
    """What the generator saw, before it is judged."""

    settings: Settings
    started_unix_s: float
    duration_s: float
    rows: list[Row]
    seconds: list[health.Second]
    workers: list[health.WorkerHealth]
    service: dict[str, Any]
    marks: list[dict[str, Any]]
    lost_workers: int = 0


def document(
    seen: Seen, plan: Plan, target: dict[str, Any], environment: dict[str, Any], slo: Slo = NO_SLO
) -> dict[str, Any]:
    """``slo``: without one, the only goal is that nothing fails."""
    rows = sorted(seen.rows, key=_begun)
    figures = summary(rows, plan.phases, seen.duration_s, slo.good)
    if seen.settings.suite == "ramp":
        figures["knee"] = knee(figures["phases"], None if slo.good == Good() else slo.good_share or 0.99)
    checks = judge(slo, figures)
    return {
        "format": FORMAT,
        "version": VERSION,
        "suite": seen.settings.suite,
        "kind": plan.kind,
        "settings": msgspec.to_builtins(seen.settings),
        "plan": {"digest": plan.digest(), "requests": len(plan.arrivals) or len(plan.script)},
        "started_unix_s": seen.started_unix_s,
        "duration_s": round(seen.duration_s, 3),
        "target": target,
        "environment": environment,
        "phases": msgspec.to_builtins(plan.phases),
        "generator": health.report(seen.workers, seen.seconds, rows, seen.lost_workers),
        "summary": figures,
        "slo": msgspec.to_builtins(slo),
        "verdict": {"kept": kept(checks), "checks": msgspec.to_builtins(checks)},
        "marks": seen.marks,
        "series": {"service": seen.service, "generator": _columns(seen.seconds)},
        "requests": columns(rows),
    }


def _begun(row: Row) -> int:
    return row.begun_us


def _columns(seconds: list[health.Second]) -> dict[str, list[Any]]:
    ordered = sorted(seconds, key=lambda second: (second.at_s, second.worker))
    return {name: [getattr(second, name) for second in ordered] for name in health.Second.__struct_fields__}


def write(file: Path, made: dict[str, Any]) -> None:
    """``*.gz`` is compressed. Nobody reads half of it: it takes its name when it is whole."""
    text = msgspec.json.encode(made) + b"\n"
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(gzip.compress(text, 6) if file.suffix == ".gz" else text)
    part.replace(file)


def read(file: Path) -> dict[str, Any]:
    """Raises DocumentError."""
    try:
        text = file.read_bytes()
        made = msgspec.json.decode(gzip.decompress(text) if file.suffix == ".gz" else text)
    except (OSError, EOFError, msgspec.DecodeError) as problem:
        raise DocumentError(f"{file} cannot be read: {problem}") from None
    if not isinstance(made, dict) or made.get("format") != FORMAT:
        raise DocumentError(f"{file} is no run of a load test")
    if made.get("version") != VERSION:
        raise DocumentError(f"{file} is of version {made.get('version')}, which this version cannot read ({VERSION})")
    return made

"""``python -m loadtests.gateway``: what the gateway costs, next to nginx, HAProxy, Rust routers, Ray Serve and LiteLLM.

Every gateway in turn gets one core; an engine that costs nothing and the callers share another. One line per goal
(G1 to G6), a table of the medians, JSON with every pass. Peers that are not here are named.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.gateway import open_streams, ours, scaling, soak
from loadtests.gateway.bench import Bench, bench
from loadtests.gateway.comparison import Compared, compare
from loadtests.gateway.goals import figures as compared_figures
from loadtests.gateway.peers import PEERS
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Subject
from loadtests.gateway.table import table
from loadtests.policies.report import Figure, Report

PARTS = ("peers", "streams", "workers", "models")
RESULTS = Path("bench-results")
SUBJECTS = (ours.subject(), ours.subject(ours.ALONE), *PEERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everything asked for was measured, whatever the figures; 1 when not; 2 for wrong options.

    A peer that is not installed is named and no reason for 1.
    """
    options = parse(argv)
    report = Report("gateway")
    facts: dict[str, Any] = {"passes": options.passes, "seconds_per_run": options.seconds, "not_measured": {}}
    try:
        with bench(options.seconds, options.peers) as everything:
            facts["cores"] = dataclasses.asdict(everything.cores)
            measure(everything, options, report, facts)
    except CannotMeasure as problem:
        say(f"gateway: {problem}")
        return 1
    report.write(options.results, **facts)
    for name, why in facts["not_measured"].items():
        print(f"not measured: {name}: {short(why)}")
    for pass_ in facts.get("disturbed", ()):
        print(f"disturbed: {pass_}")
    for trouble in facts.get("troubles", ()):
        print(f"trouble: {trouble}")
    asked_for = {*options.only, ours.NAME, "soak"}
    return 1 if asked_for & facts["not_measured"].keys() or facts.get("troubles") else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    names = [subject.name for subject in SUBJECTS]
    add("--passes", type=int, default=3, help="of everything; medians are told (default 3)")
    add("--seconds", type=float, default=2.0, help="of each single run (default 2)")
    add("--peers", type=Path, help="folder that `make bench-peers` filled")
    add("--subjects", default=",".join(names), help=f"whom to compare, comma-separated (default: {','.join(names)})")
    add("--only", default=",".join(PARTS), help=f"parts, comma-separated ({','.join(PARTS)})")
    add("--soak", type=float, metavar="MINUTES", help="instead: a steady load at about 70%% of a core")
    add("--results", type=Path, default=RESULTS, help=f"folder for the JSON (default {RESULTS})")
    options = parser.parse_args(argv)
    if options.passes < 1 or options.seconds <= 0 or (options.soak is not None and options.soak <= 0):
        parser.error("--passes must be at least 1, --seconds and --soak more than 0")
    options.peers = options.peers and options.peers.absolute()
    options.only = ["soak"] if options.soak else known(parser, "--only", options.only, PARTS)
    chosen = known(parser, "--subjects", options.subjects, names)
    options.subjects = [subject for subject in SUBJECTS if subject.name in chosen]
    return options


def known(parser: argparse.ArgumentParser, option: str, text: str, names: Sequence[str]) -> list[str]:
    found = [name for name in text.split(",") if name]
    for name in found:
        if name not in names:
            parser.error(f"{option}: there is no {name}; there are {', '.join(names)}")
    return found


def measure(everything: Bench, options: argparse.Namespace, report: Report, facts: dict[str, Any]) -> None:
    """A part that cannot be measured is noted in ``facts`` and does not stop the others."""
    missing: dict[str, str] = facts["not_measured"]
    for part in options.only:
        try:
            for figure in part_figures(part, everything, options, facts):
                report.add(figure)
        except CannotMeasure as problem:
            missing[part] = str(problem)


def part_figures(part: str, everything: Bench, options: argparse.Namespace, facts: dict[str, Any]) -> list[Figure]:
    """Raises CannotMeasure."""
    if part == "peers":
        return peers_figures(everything, options, facts)
    say(f"part {part}")
    if part == "streams":
        return open_streams.figures(everything)
    if part == "workers":
        return scaling.workers_figures(everything, options.passes, say)
    if part == "models":
        return scaling.models_figures(everything, options.passes, say)
    return soak.figures(everything, options.soak, say)


def peers_figures(everything: Bench, options: argparse.Namespace, facts: dict[str, Any]) -> list[Figure]:
    subjects: Sequence[Subject] = options.subjects
    compared = compare(everything, subjects, options.passes, say)
    facts["not_measured"] |= compared.missing
    facts["troubles"] = compared.troubles
    facts["disturbed"] = compared.disturbed
    facts["versions"] = versions(compared, everything)
    facts["compared"] = {
        name: [{str(measure): round(value, 3) for measure, value in each.figures.items()} for each in passes]
        for name, passes in compared.passes.items()
    }
    print(table(compared.passes), flush=True)
    return compared_figures(compared.passes)


def versions(compared: Compared, everything: Bench) -> dict[str, str]:
    """What the peers say of themselves, where asking is cheap."""
    asks = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"]}
    peers = everything.peers or Path()
    for name, package in (("vllm-router", "vllm-router"), ("sglang-router", "sglang-router"), ("litellm", "litellm")):
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        asks[name] = [str(peers / name / "bin" / "python"), "-c", code]
    asks["ray-serve"] = [sys.executable, "-c", "import importlib.metadata as m; print(m.version('ray'))"]
    found = {}
    for name in compared.passes:
        if name in asks:
            told = subprocess.run(asks[name], capture_output=True, text=True, check=False)
            found[name] = (told.stdout or told.stderr).strip().split("\n")[0]
    return found


def short(why: str) -> str:
    """First and last line; the JSON has the whole."""
    lines = [line for line in why.splitlines() if line.strip()]
    return " ... ".join(lines if len(lines) < 3 else (lines[0], lines[-1]))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

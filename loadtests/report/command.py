"""``roundhouse loadtest report RUN.json``: what a run, or several, cost their callers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from loadtests.outcome.document import DocumentError
from loadtests.outcome.slo import Slo, SloError, read_slo
from loadtests.report import words
from loadtests.report.analysis import analysed
from loadtests.report.content import Report, document
from loadtests.report.markdown import comment, label
from loadtests.report.page import page
from loadtests.report.passes import PairsError
from loadtests.report.pictures import timeline
from loadtests.report.pictures.alone import THEMES, standalone
from loadtests.report.pictures.canvas import ALONE_WIDE
from loadtests.report.sheet import sheet
from loadtests.report.sides import Subject, load

OK, MISSED, WRONG = 0, 1, 2
NAMES = {"html": "report.html", "report": "report.json", "csv": "report.csv", "md": "report.md"}


class UsageError(ValueError):
    """Asked wrongly; the message names the cure."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def main(argv: Sequence[str]) -> int:
    """Exit 0 when all goals were kept by runs that are valid; 1 when not; 2 for what cannot be reported on."""
    as_json = "--json" in argv
    try:
        options = _parse(argv)
        subject = load(options.runs)
        report = reported(subject, _goals(options, subject), options.seed)
        write(subject, report, _wanted(options), options.theme)
    except (UsageError, SloError, DocumentError, PairsError, OSError) as problem:
        if as_json:
            print(json.dumps({"error": {"message": str(problem), "code": "usage", "cure": None}}), flush=True)
        else:
            print(f"error: {problem}", file=sys.stderr, flush=True)
        return WRONG
    if as_json:
        print(json.dumps(document(report)), flush=True)
    else:
        for line in lines(report):
            print(line, flush=True)
    return status(report, no_slower=options.no_slower)


def reported(subject: Subject, slo: Slo, seed: int = 0) -> Report:
    """Raises SloError for goals that only two sides can keep, where there is one."""
    if slo.added and len(subject.sides) == 1:
        raise SloError(f"added_{next(iter(slo.added))} is the cost over the engine itself: it takes runs with --direct")
    return analysed(subject, slo, seed)


def status(report: Report, *, no_slower: bool = False) -> int:
    if not (report.kept and report.valid and report.sides[-1].requests):
        return MISSED
    return MISSED if no_slower and slower(report) else OK


def slower(report: Report) -> list[str]:
    """What the second side does worse, beyond chance."""
    return [line.key for line in report.lines if line.significant and line.change and (line.change.value or 0.0) > 0]


def write(subject: Subject, report: Report, files: dict[str, Path], theme: str = THEMES[0]) -> None:
    """``files``: by kind; ``theme``: of the SVG. Raises OSError."""
    for kind, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_written(subject, report, kind, theme), encoding="utf-8")


def write_all(subject: Subject, report: Report, folder: Path) -> Path:
    """Every kind, into one folder; the page's file. Raises OSError."""
    write(subject, report, {kind: folder / name for kind, name in NAMES.items()})
    return folder / NAMES["html"]


def _written(subject: Subject, report: Report, kind: str, theme: str) -> str:
    if kind == "html":
        return page(subject, report)
    if kind == "md":
        return comment(report)
    if kind == "csv":
        return sheet(report)
    if kind == "svg":
        return standalone(timeline.draw(subject, ALONE_WIDE, words.headline(report)), theme)
    return msgspec.json.format(msgspec.json.encode(document(report)), indent=1).decode() + "\n"


def lines(report: Report) -> list[str]:
    """For a terminal."""
    found = [
        f"{words.title(report)}: {words.verdict(report)}{'' if report.valid else ', NOT VALID'}",
        f"  {report.load}",
    ]
    for line in report.lines:
        value = words.with_unit(line.second.value, line.metric)
        if line.first is None:
            said = f"{value:>10}  ({words.interval(line.second, line.metric)})"
        else:
            said = f"{words.with_unit(line.first.value, line.metric):>10} -> {value:>10}  {words.finding(line)}"
        found.append(f"  {label(line):16} {said}")
    for goal in report.goals:
        if not goal.kept:
            found.append(f"  missed: {goal.what} is {words.number(goal.measured)}, the goal {goal.limit:g}")
    return found + [f"  note: {note}" for note in report.notes]


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="roundhouse loadtest report",
        description="What a load cost its callers. One run: its report. A folder with passes of --direct: what the "
        "gateway costs. Two of either: what changed from one to the other, and whether that is more than chance.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run.json, pairs.json, or a folder with one")
    parser.add_argument("--slo", type=Path, metavar="FILE", help="goals (YAML) instead of those of the run itself")
    parser.add_argument("--html", type=Path, metavar="FILE", help="the page; needs nothing else")
    parser.add_argument("--md", type=Path, metavar="FILE", help="Markdown, for a comment on a pull request")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a table of the figures")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="latency, replicas and tiers over time, for a README")
    parser.add_argument(
        "--theme",
        choices=THEMES,
        default=THEMES[0],
        help="of --svg; auto: the reader's system says",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="report.html, .json, .csv and .md into this folder")
    parser.add_argument(
        "--no-slower", action="store_true", help="two runs: exit 1 when the second is worse beyond chance"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    parser.add_argument("--json", action="store_true", help="all figures on stdout")
    options = parser.parse_args(argv)
    if len(options.runs) > 2:
        raise UsageError(f"one run, or two to compare, not {len(options.runs)}")
    if options.no_slower and len(options.runs) < 2:
        raise UsageError("--no-slower takes two runs")
    return options


def _wanted(options: argparse.Namespace) -> dict[str, Path]:
    found = {} if options.out is None else {kind: options.out / name for kind, name in NAMES.items()}
    given = {kind: getattr(options, kind) for kind in ("html", "md", "csv", "svg")}
    return found | {kind: file for kind, file in given.items() if file is not None}


def _goals(options: argparse.Namespace, subject: Subject) -> Slo:
    """Those of the file, else the run's own."""
    if options.slo is not None:
        return read_slo(options.slo)
    return own_goals(subject)


def own_goals(subject: Subject) -> Slo:
    try:
        return msgspec.convert(subject.shown.first.get("slo") or {}, Slo)
    except msgspec.ValidationError as problem:
        raise SloError(f"the run's own goals cannot be read: {problem}") from None
